-- Purpose: too few rows beside the published table.
-- Grain:   one row, where the share of rows lost is past the limit.
-- Parameters:
--   staged             the staged table, in analytics
--   before             the published table, in analytics
--   k                  items a user, at most: of a longer list before only so many count (k is a choice, no loss)
--   max_coverage_drop  the largest share allowed, 0–1
WITH
    (SELECT count() FROM analytics.{staged:Identifier}) AS n_now,
    (SELECT countIf(rank <= {k:UInt32}) FROM analytics.{before:Identifier}) AS n_was
SELECT n_was AS n_before, n_now AS n_rows, 1 - n_rows / n_before AS share
WHERE share > {max_coverage_drop:Float64}
