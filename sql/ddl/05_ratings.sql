-- Purpose: explicit feedback.
-- Grain:   a rating event; a user may rate a movie again.
CREATE TABLE IF NOT EXISTS raw.ratings
(
    user_id  Int64 COMMENT 'user',
    movie_id Int64 COMMENT 'item',
    rating   Float32 COMMENT 'stars, 0.5 to 5',
    rated_at DateTime64(3, 'UTC') COMMENT 'when, milliseconds'
)
ORDER BY (user_id, movie_id, rated_at)
COMMENT 'Rating events'
