-- Purpose: users whom neither the model knows nor, with a fallback list, the warehouse.
-- Grain:   a user and who ranked for them.
-- Parameters:
--   staged       the staged table, in analytics
--   model_users  the model's users, in analytics
--   seen         what the warehouse had as seen when the batch began, in analytics
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
    source = 'popular'
    AND user_id IN (
        SELECT user_id FROM analytics.{seen:Identifier} WHERE user_id IN (SELECT user_id FROM strangers)
    )
)
