-- Purpose: implicit feedback.
-- Grain:   one row per viewing event; a user may watch a movie again.
-- Columns:
--   user_id     the user
--   movie_id    the item
--   watched_at  time of the viewing, UTC, milliseconds
CREATE TABLE IF NOT EXISTS raw.watched_movies
(
    user_id    Int64 COMMENT 'user',
    movie_id   Int64 COMMENT 'item',
    watched_at DateTime64(3, 'UTC') COMMENT 'when, milliseconds'
)
ORDER BY (user_id, movie_id, watched_at)
COMMENT 'Viewing events'
