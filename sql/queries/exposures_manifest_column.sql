-- Purpose: whether analytics.exposures has the column manifest; a table made by an older version of Rankline lacks it.
-- Grain:   one row, if it has the column; otherwise none.
-- Columns:
--   name  manifest
SELECT name FROM system.columns WHERE database = 'analytics' AND table = 'exposures' AND name = 'manifest'
