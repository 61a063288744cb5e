-- Purpose: the loss of rows against the published table, if it is too large.
-- Grain:   one row, if the share of lost rows is over the limit; otherwise none.
-- Parameters:
--   staged             the staged table, in analytics
--   before             the published table, in analytics
--   k                  largest number of items per user; rows of higher rank in the published table do not count, since
--                      a smaller k is a choice and not a loss
--   max_coverage_drop  the largest share allowed, 0–1
-- Columns:
--   n_before  rows of the published table up to rank k
--   n_rows    rows of the staged table
--   share     1 − n_rows / n_before
WITH
    (SELECT count() FROM analytics.{staged:Identifier}) AS n_now,
    (SELECT countIf(rank <= {k:UInt32}) FROM analytics.{before:Identifier}) AS n_was
SELECT n_was AS n_before, n_now AS n_rows, 1 - n_rows / n_before AS share
WHERE share > {max_coverage_drop:Float64}
