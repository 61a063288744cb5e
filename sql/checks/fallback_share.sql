-- Purpose: too large a share of rows that the model did not rank: what is popular stands in for it.
-- Grain:   one row, where the share is past the limit.
-- Parameters:
--   staged        the staged table, in analytics
--   max_fallback  the largest share allowed, 0–1
SELECT countIf(source = 'popular') AS n_popular, count() AS n_rows, n_popular / n_rows AS share
FROM analytics.{staged:Identifier}
HAVING share > {max_fallback:Float64}
