-- Purpose: one score for each user and movie: the latest rating where there is one, else 1 where it was only watched.
-- Grain:   a user and a movie.
-- Columns: interaction_score in stars (the rating's scale); last_interaction_at the latest event of either kind, UTC.
-- Equal times: the larger rating wins.
-- This is the place to change how a score is made; `rankline init` brings a server's view up to date.
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
