-- Purpose: one score per user and movie: the latest rating; 1 if the movie was watched and never rated.
-- Grain:   one row per user and movie.
-- Columns:
--   user_id              the user
--   movie_id             the item
--   interaction_score    stars, the scale of the ratings
--   last_interaction_at  time of the latest rating or viewing, UTC, milliseconds
-- Of two ratings at the same time the larger one counts.
-- To change how a score is made, edit this file; `rankline init` then replaces the view on the server.
CREATE OR REPLACE VIEW analytics.mart_user_movie_matrix AS
WITH
    events AS
    (
        SELECT user_id, movie_id, 1 AS is_rating, rated_at AS at, toFloat32(rating) AS score
        FROM raw.ratings
        UNION ALL
        SELECT user_id, movie_id, 0 AS is_rating, watched_at AS at, toFloat32(1) AS score
        FROM raw.watched_movies
    )
SELECT
    user_id,
    movie_id,
    argMax(score, (is_rating, at, score)) AS interaction_score,
    max(at)                               AS last_interaction_at
FROM events
GROUP BY user_id, movie_id
