-- Purpose: a published set that was made after this one was begun: an old batch must not replace a new one.
-- Grain:   one row, where there is one.
-- Parameters:
--   before  the published table, in analytics
--   at_ms   when this batch began, milliseconds since 1970
SELECT max(generated_at) AS generated_at, any(run_id) AS run_id
FROM analytics.{before:Identifier}
HAVING toUnixTimestamp64Milli(generated_at) > {at_ms:Int64}
