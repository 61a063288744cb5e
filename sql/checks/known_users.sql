-- Purpose: users with a list whom the model does not have. With a fallback list, users of the warehouse may have one.
-- Grain:   one row per user and source.
-- Parameters:
--   staged       the staged table, in analytics
--   model_users  the model's users, in analytics
--   promoted     sources of promotions
--   seen         the seen items of the warehouse when the batch began, in analytics
-- Columns:
--   user_id    the user
--   ranked_by  the source of the rows: the model's name, or popular for the fallback list
--   n_rows     rows of the user from this source
WITH strangers AS
(
    SELECT user_id, source, count() AS n_rows
    FROM analytics.{staged:Identifier}
    WHERE user_id NOT IN (SELECT user_id FROM analytics.{model_users:Identifier})
    GROUP BY user_id, source
)
SELECT user_id, source AS ranked_by, n_rows
FROM strangers
WHERE NOT (
    (source = 'popular' OR has({promoted:Array(String)}, source))
    AND user_id IN (
        SELECT user_id FROM analytics.{seen:Identifier} WHERE user_id IN (SELECT user_id FROM strangers)
    )
)
