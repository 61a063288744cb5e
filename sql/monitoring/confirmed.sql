-- Purpose: when a job last made the very rows that are published, and so published nothing.
-- Grain:   one row.
-- Parameters:
--   sets    what the names of the model's tables begin with: recommendations, or recommendations_NAME
--   run_id  run of the published rows
-- Columns:
--   at_ms  when that batch was generated, milliseconds since 1970; 0 if there was none
SELECT max(toUnixTimestamp64Milli(generated_at)) AS at_ms
FROM analytics.publications
WHERE action = 'already published'
  AND run_id = {run_id:String}
  AND startsWith(staged, concat({sets:String}, '_staged_'))
