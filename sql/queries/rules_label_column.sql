-- Purpose: whether analytics.rules has the columns of promotions; a table made by an older version of Rankline lacks them.
-- Grain:   one row if it has, none if it lacks them.
-- Columns:
--   name  label
SELECT name
FROM system.columns
WHERE database = 'analytics' AND table = 'rules' AND name = 'label'
