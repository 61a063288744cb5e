-- Purpose: how new the data is, and how much of it the champion has not learned from.
-- Grain:   one row.
-- Input:   interactions (user_id, item_id, at_ms): one row per user and item, with the first time
-- Parameters:
--   learned_ms  the newest interaction that the champion learned from, milliseconds since 1970
--   now_ms      the clock, milliseconds since 1970; what is later does not count
-- Columns:
--   newest_ms  the newest interaction
--   n          interactions
--   n_new      those after learned_ms
SELECT max(at_ms) AS newest_ms, count() AS n, countIf(at_ms > {learned_ms:Int64}) AS n_new
FROM interactions
WHERE at_ms <= {now_ms:Int64}
