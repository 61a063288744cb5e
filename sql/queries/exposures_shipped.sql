-- Purpose: up to which exposure a log was shipped.
-- Grain:   one row.
-- Parameters:
--   log_id  the log of exposures
-- Columns:
--   last_seq  number of the last exposure that is in analytics.exposures; 0 for none
SELECT max(last_seq) AS last_seq
FROM analytics.exposure_shipments
WHERE log_id = {log_id:String}
