-- Purpose: explicit feedback.
-- Grain:   one row per rating event; a user may rate a movie again.
-- Columns:
--   user_id   the user
--   movie_id  the item
--   rating    stars, 0.5 to 5
--   rated_at  time of the rating, UTC, milliseconds
CREATE TABLE IF NOT EXISTS raw.ratings
(
    user_id  Int64 COMMENT 'user',
    movie_id Int64 COMMENT 'item',
    rating   Float32 COMMENT 'stars, 0.5 to 5',
    rated_at DateTime64(3, 'UTC') COMMENT 'when, milliseconds'
)
ORDER BY (user_id, movie_id, rated_at)
COMMENT 'Rating events'
