-- Purpose: up to which interaction each log was shipped.
-- Grain:   one row per interaction log.
-- Columns:
--   log_id    the interaction log
--   last_seq  number of the last interaction that is in raw.ratings or raw.watched_movies
SELECT log_id, max(last_seq) AS last_seq
FROM raw.shipments
GROUP BY log_id
ORDER BY log_id
