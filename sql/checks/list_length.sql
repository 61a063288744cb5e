-- Purpose: users whose list is missing or has the wrong length. A list has k items, or all unseen items if fewer; items
--          that a rule hides don't count. With a limit on genres or series it may be shorter if one of its own is full.
-- Grain:   one row per user.
-- Parameters:
--   staged       the staged table, in analytics
--   model_users  the model's users with the columns of their seen items, in analytics
--   model_items  the model's items with their columns and whether a rule hides them, in analytics
--   seen         the seen items of the warehouse when the batch began, in analytics
--   k            largest number of items per user
--   max_per_genre  largest number of items of one genre in a list; 0 for any number
--   max_per_series  the same of one series
--   strangers    1 if users of the warehouse who are not in the model get a list too, else 0
-- Columns:
--   user_id  the user
--   n_items  items in the list
--   n_due    items that the list must have
-- A user who was forgotten must have no list, even if the model has the user.
WITH
    due AS
    (
        SELECT user_id FROM analytics.{model_users:Identifier}
        UNION ALL
        SELECT DISTINCT user_id
        FROM analytics.{seen:Identifier}
        WHERE {strangers:UInt8} AND user_id NOT IN (SELECT user_id FROM analytics.{model_users:Identifier})
    ),
    lists AS
    (
        SELECT user_id, count() AS n_items FROM analytics.{staged:Identifier} GROUP BY user_id
    ),
    others AS
    (
        SELECT due.user_id AS user_id, lists.n_items AS n_items
        FROM due
        LEFT JOIN lists ON lists.user_id = due.user_id
        WHERE n_items != {k:UInt32}
    ),
    gone AS
    (
        SELECT user_id
        FROM others
        ARRAY JOIN (SELECT groupUniqArray(salt) FROM analytics.forgotten) AS salt
        WHERE lower(hex(SHA256(concat(salt, toString(user_id))))) IN (SELECT digest FROM analytics.forgotten)
    ),
    full AS
    (
        SELECT user_id
        FROM
        (
            SELECT listed.user_id AS user_id, arrayJoin(items.genres) AS genre
            FROM analytics.{staged:Identifier} AS listed
            INNER JOIN analytics.{model_items:Identifier} AS items ON items.item_id = listed.item_id
            WHERE ({max_per_genre:UInt32} > 0 OR {max_per_series:UInt32} > 0)
                AND listed.user_id IN (SELECT user_id FROM others)
        )
        GROUP BY user_id, genre
        HAVING count() >= if(startsWith(genre, 'series: '), {max_per_series:UInt32}, {max_per_genre:UInt32})
    ),
    left_out AS
    (
        SELECT user_id, uniqExact(col) AS n_seen
        FROM
        (
            SELECT user_id, arrayJoin(seen) AS col
            FROM analytics.{model_users:Identifier}
            WHERE user_id IN (SELECT user_id FROM others)
            UNION ALL
            SELECT seen.user_id AS user_id, items.col AS col
            FROM analytics.{seen:Identifier} AS seen
            INNER JOIN analytics.{model_items:Identifier} AS items ON items.item_id = seen.item_id
            WHERE user_id IN (SELECT user_id FROM others)
        )
        WHERE col NOT IN (SELECT col FROM analytics.{model_items:Identifier} WHERE hidden)
        GROUP BY user_id
    )
SELECT
    others.user_id AS user_id,
    others.n_items AS n_items,
    least({k:UInt32}, (SELECT countIf(NOT hidden) FROM analytics.{model_items:Identifier}) - left_out.n_seen) AS n_due
FROM others
LEFT JOIN left_out ON left_out.user_id = others.user_id
WHERE n_items != n_due
  AND NOT (n_items < n_due AND user_id IN (SELECT user_id FROM full))
  AND user_id NOT IN (SELECT user_id FROM gone)
