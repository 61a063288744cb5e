-- Purpose: the tables that may hold a published set: the current one, the one before, kept ones, staged ones.
-- Grain:   a table of analytics.
SELECT name
FROM system.tables
WHERE database = 'analytics'
  AND (name IN ('recommendations', 'recommendations_previous')
       OR startsWith(name, 'recommendations_published_')
       OR startsWith(name, 'recommendations_staged_'))
ORDER BY name
