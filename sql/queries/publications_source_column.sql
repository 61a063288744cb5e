-- Purpose: whether analytics.publications has the column source_name.
-- Grain:   one row, if it has the column; otherwise none.
-- Columns:
--   name  source_name
SELECT name FROM system.columns WHERE database = 'analytics' AND table = 'publications' AND name = 'source_name'
