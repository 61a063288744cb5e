-- Purpose: recommended items that the user has seen, by the model's artifact or by the warehouse when the batch began.
-- Grain:   one row per user, item and origin.
-- Parameters:
--   staged       the staged table, in analytics
--   model_users  the model's users with the columns of their seen items, in analytics
--   model_items  the model's items with their columns, in analytics
--   seen         the seen items of the warehouse when the batch began, in analytics
-- Columns:
--   user_id  the user
--   item_id  the item
--   seen_by  where it is recorded as seen: artifact or warehouse
-- The seen items of the warehouse are by far the largest table: they are read once and streamed past the lists. The
-- table that a join looks rows up in is moved to disk above half a gigabyte.
WITH rows AS
(
    SELECT recommended.user_id AS user_id, recommended.item_id AS item_id, items.col AS col
    FROM analytics.{staged:Identifier} AS recommended
    INNER JOIN analytics.{model_items:Identifier} AS items ON items.item_id = recommended.item_id
)
SELECT rows.user_id AS user_id, rows.item_id AS item_id, 'artifact' AS seen_by
FROM rows
INNER JOIN analytics.{model_users:Identifier} AS users ON users.user_id = rows.user_id
WHERE has(users.seen, rows.col)
UNION ALL
SELECT seen.user_id AS user_id, seen.item_id AS item_id, 'warehouse' AS seen_by
FROM analytics.{seen:Identifier} AS seen
LEFT SEMI JOIN
(
    -- Nothing to look up where the warehouse had nothing to say.
    SELECT user_id, item_id
    FROM analytics.{staged:Identifier}
    WHERE (SELECT count() FROM analytics.{seen:Identifier}) > 0
) AS recommended
    ON recommended.user_id = seen.user_id AND recommended.item_id = seen.item_id
SETTINGS join_algorithm = 'grace_hash', max_bytes_in_join = 500000000
