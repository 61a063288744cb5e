-- Purpose: a user's published list.
-- Grain:   a rank.
-- Parameters:
--   table  the published table, in analytics
--   user   the user's id as text
SELECT rank, toString(item_id) AS item_id, score, source, model_version, run_id, generated_at
FROM analytics.{table:Identifier}
WHERE toString(user_id) = {user:String}
ORDER BY rank
