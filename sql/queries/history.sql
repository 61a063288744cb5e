-- Purpose: what a user liked best, with titles.
-- Grain:   an item of that user.
-- Parameters:
--   user  the user's id as text
--   k     how many
SELECT
    toString(mart.movie_id) AS item_id,
    movies.title            AS title,
    movies.genres           AS genres,
    interaction_score       AS score
FROM analytics.mart_user_movie_matrix AS mart
LEFT ANY JOIN raw.movies AS movies ON toString(movies.movie_id) = toString(mart.movie_id)
WHERE toString(user_id) = {user:String}
ORDER BY interaction_score DESC, last_interaction_at DESC, mart.movie_id
LIMIT {k:UInt32}
