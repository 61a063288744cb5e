-- Purpose: what was seen of each arm of an experiment, as sums over its users: all that the statistics need.
-- Grain:   one row per arm.
-- Parameters:
--   experiment, channel  the experiment, and where its lists were shown: api or table
--   outcome_from         ratings below it are no outcomes; 0: all interactions are
-- Columns:
--   arm                       a or b
--   n_users                   users who were shown a list
--   n_both                    of these, users who were seen in the other arm, too
--   n_answers, n_propensity   lists, and those with a propensity
--   n_active                  users with an outcome: an interaction that names an answer which showed the item
--   outcomes, outcomes_2      sum over users of the number of their outcomes, and of its square
--   failed, failed_2          sum over users of the share of their answers that failed (HTTP 5xx), and of its square
--   empty, empty_2            the same of the share of their answers that are empty lists
--   n_timed, slow, slow_2     users with a time, and sums over them of the mean of the logarithm of microseconds
WITH
    shown AS
    (
        SELECT
            user_id,
            argMin(exposures.arm, at)                                          AS arm,
            uniqExact(exposures.arm) > 1                                       AS in_both,
            count()                                                      AS n_answers,
            countIf(propensity IS NOT NULL)                              AS n_propensity,
            countIf(status >= 500) / n_answers                           AS failed,
            countIf(status < 400 AND empty(items)) / n_answers           AS empty,
            avgIf(log(greatest(micros, 1)), status < 400 AND micros > 0) AS slow
        FROM analytics.exposures AS exposures
        WHERE experiment = {experiment:String} AND channel = {channel:String}
        GROUP BY user_id
    ),
    followed AS
    (
        SELECT lists.user_id AS user_id, uniqExact(log_id, seq) AS n
        FROM
        (
            SELECT request_id, user_id, items
            FROM analytics.exposures
            WHERE experiment = {experiment:String} AND channel = {channel:String} AND status < 400
        ) AS lists
        INNER JOIN
        (
            SELECT request_id, user_id, item_id, log_id, seq
            FROM analytics.outcomes
            WHERE ifNull(rating, 1e6) >= {outcome_from:Float64}
        ) AS done ON done.request_id = lists.request_id AND done.user_id = lists.user_id
        WHERE has(items, item_id)
        GROUP BY lists.user_id
    )
SELECT
    arm,
    count()                                AS n_users,
    sum(shown.in_both)                           AS n_both,
    sum(shown.n_answers)                         AS n_answers,
    sum(shown.n_propensity)                      AS n_propensity,
    countIf(followed.n > 0)                AS n_active,
    sum(followed.n)                        AS outcomes,
    sum(followed.n * followed.n)           AS outcomes_2,
    sum(shown.failed)                            AS failed,
    sum(shown.failed * shown.failed)                   AS failed_2,
    sum(shown.empty)                             AS empty,
    sum(shown.empty * shown.empty)                     AS empty_2,
    countIf(isFinite(shown.slow))                AS n_timed,
    sumIf(shown.slow, isFinite(shown.slow))            AS slow,
    sumIf(shown.slow * shown.slow, isFinite(shown.slow))     AS slow_2
FROM shown
LEFT JOIN followed ON followed.user_id = shown.user_id
GROUP BY arm
ORDER BY arm
