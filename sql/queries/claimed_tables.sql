-- Purpose: tables that a job has claimed for a move: its ticket is in their name.
-- Grain:   a table of analytics.
-- Parameters:
--   sets  what the names of a model's tables begin with: recommendations, or recommendations_NAME
SELECT name
FROM system.tables
WHERE database = 'analytics' AND startsWith(name, concat({sets:String}, '_moving_'))
ORDER BY name
