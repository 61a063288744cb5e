-- Purpose: how the lists of two sets differ.
-- Grain:   one row.
-- Parameters:
--   a, b  the tables before and after, in analytics
-- Columns:
--   n_before   users with a list in a
--   n_after    users with a list in b
--   n_gained   users with a list in b only
--   n_lost     users with a list in a only
--   n_both     users with a list in both
--   n_changed  of these, users whose lists have other items or another order
--   jaccard    mean over the users of both: items in both lists / items in either, 0–1
WITH
    before AS
    (
        SELECT toString(user_id) AS user, arrayMap(row -> row.2, arraySort(groupArray((rank, toString(item_id))))) AS items
        FROM analytics.{a:Identifier}
        GROUP BY user
    ),
    after AS
    (
        SELECT toString(user_id) AS user, arrayMap(row -> row.2, arraySort(groupArray((rank, toString(item_id))))) AS items
        FROM analytics.{b:Identifier}
        GROUP BY user
    )
SELECT
    countIf(notEmpty(before.items))                                       AS n_before,
    countIf(notEmpty(after.items))                                        AS n_after,
    countIf(empty(before.items))                                          AS n_gained,
    countIf(empty(after.items))                                           AS n_lost,
    countIf(notEmpty(before.items) AND notEmpty(after.items))             AS n_both,
    countIf(notEmpty(before.items) AND notEmpty(after.items) AND before.items != after.items) AS n_changed,
    avgIf(
        length(arrayIntersect(before.items, after.items))
            / length(arrayDistinct(arrayConcat(before.items, after.items))),
        notEmpty(before.items) AND notEmpty(after.items)
    )                                                                     AS jaccard
FROM before
FULL OUTER JOIN after ON after.user = before.user
