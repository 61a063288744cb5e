-- Purpose: explicit feedback.
-- Grain:   one row per rating event; a user may rate a movie again.
-- Columns:
--   user_id   the user
--   movie_id  the item
--   rating    stars, 0.5 to 5
--   rated_at  time of the rating, UTC, milliseconds
--   log_id, seq  the interaction log that it was shipped from, and its number there; '' and 0 for all others.
--             An insert gives them as sent_log_id and sent_seq, which are not stored. INSERT without names of columns and
--             SELECT * know none of the four.
-- Settings: the window lets the table recognise the token of an insert, so that what is shipped from an interaction
--           log counts once (docs/serving.md). An acknowledged insert is on the disk. `rankline init` gives them to older
--           tables.
CREATE TABLE IF NOT EXISTS raw.ratings
(
    user_id  Int64 COMMENT 'user',
    movie_id Int64 COMMENT 'item',
    rating   Float32 COMMENT 'stars, 0.5 to 5',
    rated_at DateTime64(3, 'UTC') COMMENT 'when, milliseconds',
    sent_log_id String EPHEMERAL '' COMMENT 'log_id, in an insert',
    sent_seq    UInt64 EPHEMERAL 0 COMMENT 'seq, in an insert',
    log_id      LowCardinality(String) MATERIALIZED sent_log_id COMMENT 'the interaction log that it was shipped from',
    seq         UInt64 MATERIALIZED sent_seq COMMENT 'its number there'
)
ORDER BY (user_id, movie_id, rated_at)
SETTINGS
    non_replicated_deduplication_window = 10000,
    replicated_deduplication_window_seconds = 604800,
    fsync_after_insert = 1,
    fsync_part_directory = 1
COMMENT 'Rating events'
