-- Purpose: the items that a user liked best, with titles.
-- Grain:   one row per item, best first.
-- Parameters:
--   user  the user id, as text
--   k     largest number of rows
-- Columns:
--   item_id  the item, as text
--   title    title; empty if unknown
--   genres   genres, separated by |
--   score    stars
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
