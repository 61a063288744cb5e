-- Purpose: the column that analytics.exposures lacks if an older version of Rankline created the table.
-- Grain:   one row per answer and user, as before; older rows get the empty string.
ALTER TABLE analytics.exposures
ADD COLUMN IF NOT EXISTS manifest LowCardinality(String)
COMMENT 'X-Manifest of the answer' AFTER model_version
