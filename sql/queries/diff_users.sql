-- Purpose: how two sets differ, user by user.
-- Grain:   one row.
-- Parameters:
--   a, b  the tables, in analytics: before and after
-- Columns: n_changed: users of both whose lists differ (items or their order); jaccard: mean over users of both of
--          items in both lists over items in either.
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
