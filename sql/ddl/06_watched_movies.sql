-- Purpose: implicit feedback.
-- Grain:   one row per viewing event; a user may watch a movie again.
-- Columns:
--   user_id     the user
--   movie_id    the item
--   watched_at  time of the viewing, UTC, milliseconds
-- Settings: the window lets the table recognise the token of an insert, so that what is shipped from an interaction
--           log counts once (docs/serving.md). An acknowledged insert is on the disk. `rankline init` gives them to older
--           tables.
CREATE TABLE IF NOT EXISTS raw.watched_movies
(
    user_id    Int64 COMMENT 'user',
    movie_id   Int64 COMMENT 'item',
    watched_at DateTime64(3, 'UTC') COMMENT 'when, milliseconds'
)
ORDER BY (user_id, movie_id, watched_at)
SETTINGS
    non_replicated_deduplication_window = 10000,
    replicated_deduplication_window_seconds = 604800,
    fsync_after_insert = 1,
    fsync_part_directory = 1
COMMENT 'Viewing events'
