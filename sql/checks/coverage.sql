-- Purpose: users of the published table who have no rows in the staged table, if there are too many.
-- Grain:   one row, if the share of lost users is over the limit; otherwise none.
-- Parameters:
--   staged             the staged table, in analytics
--   before             the published table, in analytics
--   max_coverage_drop  the largest share allowed, 0–1
-- Columns:
--   n_before  users in the published table
--   n_lost    users of these who are not in the staged table
--   share     n_lost / n_before, 0–1
-- The hashes of the ids as text are compared, because the type of the ids may differ between the two tables.
SELECT count() AS n_before, countIf(user NOT IN (
    SELECT sipHash64(toString(user_id)) FROM analytics.{staged:Identifier}
)) AS n_lost, n_lost / n_before AS share
FROM (SELECT DISTINCT sipHash64(toString(user_id)) AS user FROM analytics.{before:Identifier})
HAVING share > {max_coverage_drop:Float64}
