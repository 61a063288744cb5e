-- Purpose: the tables that may hold a published set: the current one, the one before, kept ones, staged
--          ones, those that a job has claimed for a move.
-- Grain:   a table of analytics.
-- Parameters:
--   sets  what the names of a model's tables begin with: recommendations, or recommendations_NAME
SELECT name
FROM system.tables
WHERE database = 'analytics'
  AND (name IN ({sets:String}, concat({sets:String}, '_previous'))
       OR startsWith(name, concat({sets:String}, '_published_'))
       OR startsWith(name, concat({sets:String}, '_staged_'))
       OR startsWith(name, concat({sets:String}, '_moving_')))
ORDER BY name
