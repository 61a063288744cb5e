-- Purpose: what made the rows of a published set.
-- Grain:   one row per source, the one with most rows first.
-- Parameters:
--   table  the set, in analytics
-- Columns:
--   source   the model's name, popular, promoted, …
--   n_rows   rows
SELECT toString(source) AS source, count() AS n_rows
FROM analytics.{table:Identifier}
GROUP BY source
ORDER BY n_rows DESC, source
