-- Purpose: too many users of the published table who are not in the staged one.
-- Grain:   one row, where the share of users lost is past the limit.
-- Parameters:
--   staged             the staged table, in analytics
--   before             the published table, in analytics
--   max_coverage_drop  the largest share allowed, 0–1
-- Ids are compared as text, since their kind may change from one table to the next, and by their hash.
SELECT count() AS n_before, countIf(user NOT IN (
    SELECT sipHash64(toString(user_id)) FROM analytics.{staged:Identifier}
)) AS n_lost, n_lost / n_before AS share
FROM (SELECT DISTINCT sipHash64(toString(user_id)) AS user FROM analytics.{before:Identifier})
HAVING share > {max_coverage_drop:Float64}
