-- Purpose: what users did since the champion learned, to count those whom it does not know.
-- Grain:   one row per user and item.
-- Input:   interactions (user_id, item_id, at_ms): one row per user and item, with the first time
-- Parameters:
--   learned_ms, now_ms  after the one and up to the other, milliseconds since 1970
-- Columns:
--   user_id, item_id  of the model's types
SELECT user_id, item_id
FROM interactions
WHERE at_ms > {learned_ms:Int64} AND at_ms <= {now_ms:Int64}
