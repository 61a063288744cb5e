-- Purpose: users whom neither the model knows nor, with a fallback list, the warehouse.
-- Grain:   a user.
-- Parameters:
--   staged       the staged table, in analytics
--   model_users  the model's users, in analytics
--   seen         what the warehouse had as seen when the batch began, in analytics
SELECT user_id, any(source) AS ranked_by, count() AS n_rows
FROM analytics.{staged:Identifier}
WHERE user_id NOT IN (SELECT user_id FROM analytics.{model_users:Identifier})
  AND NOT (source = 'popular' AND user_id IN (SELECT user_id FROM analytics.{seen:Identifier}))
GROUP BY user_id
