-- Purpose: published lists held against what their users did while the lists were shown, beside what the most popular
--          items of that time would have reached.
-- Grain:   one row.
-- Input:
--   interactions (user_id, item_id, at_ms)    one row per user and item, with the first time
--   lists (user_id, rank, item_id, set_ms)    the published sets, each with the time that it was generated at
-- Parameters:
--   starts, ends  when each set began to be shown, and when the next one did, milliseconds since 1970
--   now_ms        the clock; what is later does not count
--   k             places of a list that count
-- Columns:
--   n_active  pairs of user and set where the user did something new while the set was shown
--   n_users   users of these with a list in at least one such set
--   n_lists   their pairs with a list; lists_squared: Σ over users of the square of their number
--   totals, squares, products  of six values: Σ s, Σ s² and Σ s·c over the users, where s is the user's sum of the
--             value over their c lists. The values: hit rate, NDCG, both of most popular, both differences (lists minus most popular)
-- Hit rate: 1 if one of the first k places is an item that the user turned to for the first time while the set was shown.
-- NDCG: Σ 1/log2(rank + 1) over such places, divided by that of a list whose first min(k, number of such items) are all
-- right. An item that is in no list is missed.
-- Most popular: all items by their interactions up to the set's time, ties by id, without those that the user had by then.
WITH
    active AS
    (
        SELECT user_id, groupArray((at_ms, item_id)) AS history
        FROM interactions
        WHERE at_ms <= {now_ms:Int64}
        GROUP BY user_id
        HAVING max(at_ms) > arrayMin({starts:Array(Int64)})
    ),
    shown AS
    (
        SELECT user_id, history, set_ms, end_ms
        FROM active
        ARRAY JOIN {starts:Array(Int64)} AS set_ms, {ends:Array(Int64)} AS end_ms
        WHERE arrayExists(did -> did.1 > set_ms AND did.1 <= end_ms, history)
    ),
    done AS
    (
        SELECT user_id, set_ms, did.2 AS item_id, did.1 > set_ms AS is_new
        FROM shown
        ARRAY JOIN history AS did
        WHERE did.1 <= end_ms
    ),
    places AS
    (
        SELECT set_ms, item_id, row_number() OVER (PARTITION BY set_ms ORDER BY n DESC, item_id) AS place
        FROM
        (
            SELECT set_ms, item_id, count() AS n
            FROM interactions
            ARRAY JOIN {starts:Array(Int64)} AS set_ms
            WHERE at_ms <= set_ms
            GROUP BY set_ms, item_id
        )
    ),
    users AS
    (
        SELECT
            user_id,
            set_ms,
            groupArrayIf(item_id, is_new)                        AS new_items,
            groupArrayIf(toInt64(place), is_new AND place > 0)   AS new_places,
            groupArrayIf(toInt64(place), NOT is_new)             AS had_places
        FROM done
        LEFT JOIN places USING (set_ms, item_id)
        GROUP BY user_id, set_ms
    ),
    listed AS
    (
        SELECT user_id, set_ms, arrayMap(place -> place.2, arraySort(groupArray((rank, item_id)))) AS list
        FROM lists
        WHERE rank <= {k:UInt32}
          AND user_id IN (
              SELECT user_id FROM interactions WHERE at_ms > arrayMin({starts:Array(Int64)}) AND at_ms <= {now_ms:Int64}
          )
        GROUP BY user_id, set_ms
    ),
    ranked AS
    (
        SELECT
            user_id,
            notEmpty(list) AS is_listed,
            arrayFilter(r -> r > 0, arrayMap(item -> indexOf(list, item), new_items)) AS ranks,
            arrayFilter(
                r -> r <= {k:UInt32},
                arrayMap(place -> place - arrayCount(had -> had < place, had_places), new_places)
            ) AS popular_ranks,
            arraySum(r -> 1 / log2(r + 1), range(1, least({k:UInt32}, length(new_items)) + 1)) AS ideal
        FROM users
        LEFT JOIN listed USING (user_id, set_ms)
    ),
    measured AS
    (
        SELECT
            user_id,
            is_listed,
            toFloat64(notEmpty(ranks))                                AS hit,
            arraySum(r -> 1 / log2(r + 1), ranks) / ideal             AS ndcg,
            toFloat64(notEmpty(popular_ranks))                        AS popular_hit,
            arraySum(r -> 1 / log2(r + 1), popular_ranks) / ideal     AS popular_ndcg
        FROM ranked
    ),
    by_user AS
    (
        SELECT
            user_id,
            count()             AS sets_active,
            countIf(is_listed)  AS sets_listed,
            sumForEach(arrayMap(
                value -> is_listed * value,
                [hit, ndcg, popular_hit, popular_ndcg, hit - popular_hit, ndcg - popular_ndcg]
            ))                  AS sums
        FROM measured
        GROUP BY user_id
    )
SELECT
    sum(sets_active)                                       AS n_active,
    countIf(sets_listed > 0)                               AS n_users,
    sum(sets_listed)                                       AS n_lists,
    sum(sets_listed * sets_listed)                         AS lists_squared,
    sumForEach(sums)                                       AS totals,
    sumForEach(arrayMap(s -> s * s, sums))                 AS squares,
    sumForEach(arrayMap(s -> s * sets_listed, sums))       AS products
FROM by_user
