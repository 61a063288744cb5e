-- Purpose: how many outcomes name an answer, and of how many of them the answer is known; and what was lost.
-- Grain:   one row.
-- Parameters:
--   experiment, channel  the experiment, and where its lists were shown: api or table
--   until                when it ended, or now, milliseconds since 1970
-- Columns:
--   n_outcomes  interactions since the first list that name an answer of this channel
--   n_joined    of these, interactions whose answer was logged for that user
--   n_lost      exposures that could not be logged; of the table none
--   n_other     lists that were shown in the other channel
WITH
    (
        SELECT min(at)
        FROM analytics.exposures
        WHERE experiment = {experiment:String} AND channel = {channel:String}
    ) AS first_at,
    named AS
    (
        SELECT request_id, user_id, uniqExact(log_id, seq) AS n
        FROM analytics.outcomes
        WHERE at >= first_at
          AND at <= fromUnixTimestamp64Milli({until:Int64}, 'UTC')
          AND startsWith(request_id, 'table:') = ({channel:String} = 'table')
        GROUP BY request_id, user_id
    )
SELECT
    sum(n) AS n_outcomes,
    sumIf(n, (request_id, user_id) IN (
        SELECT request_id, user_id
        FROM analytics.exposures
        WHERE experiment = {experiment:String} AND channel = {channel:String}
          AND (request_id, user_id) IN (SELECT request_id, user_id FROM named)
    )) AS n_joined,
    (
        SELECT sum(n_lost)
        FROM analytics.exposures
        WHERE experiment = {experiment:String} AND channel = 'lost' AND {channel:String} = 'api'
    ) AS n_lost,
    (
        SELECT count()
        FROM analytics.exposures
        WHERE experiment = {experiment:String} AND channel NOT IN ('lost', {channel:String})
    ) AS n_other
FROM named
