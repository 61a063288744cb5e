-- Purpose: a published set that was generated after this batch began. An old batch must not replace a newer set.
-- Grain:   one row, if there is such a set; otherwise none.
-- Parameters:
--   before  the published table, in analytics
--   at_ms   when this batch began, milliseconds since 1970 (UTC)
-- Columns:
--   generated_at  when the published set was generated, UTC
--   run_id        the run that it is from
SELECT max(generated_at) AS generated_at, any(run_id) AS run_id
FROM analytics.{before:Identifier}
HAVING toUnixTimestamp64Milli(generated_at) > {at_ms:Int64}
