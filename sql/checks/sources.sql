-- Purpose: rows of the model's users with a source other than the model or a promotion.
-- Grain:   one row per source.
-- Parameters:
--   staged       the staged table, in analytics
--   model_users  the model's users, in analytics
--   promoted     sources of promotions
--   model_name   the source that the model's rows must have: nmf, item-knn, popular, …
-- Columns:
--   ranked_by  the source
--   example    one user with such rows
--   n_rows     rows with this source
SELECT source AS ranked_by, any(user_id) AS example, count() AS n_rows
FROM analytics.{staged:Identifier}
WHERE source != {model_name:String} AND NOT has({promoted:Array(String)}, source) AND user_id IN (SELECT user_id FROM analytics.{model_users:Identifier})
GROUP BY source
