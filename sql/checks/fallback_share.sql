-- Purpose: rows of users who are not in the model and got the fallback list (popular items), if there are too many.
-- Grain:   one row, if the share is over the limit; otherwise none.
-- Parameters:
--   staged        the staged table, in analytics
--   model_users   the model's users, in analytics
--   max_fallback  the largest share allowed, 0–1
-- Columns:
--   n_fallback  rows of users who are not in the model
--   n_rows      all rows
--   share       n_fallback / n_rows, 0–1
SELECT
    countIf(user_id NOT IN (SELECT user_id FROM analytics.{model_users:Identifier})) AS n_fallback,
    count() AS n_rows,
    n_fallback / n_rows AS share
FROM analytics.{staged:Identifier}
HAVING share > {max_fallback:Float64}
