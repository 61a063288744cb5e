-- Purpose: all items, with their titles and genres.
-- Grain:   one row per movie.
-- Columns:
--   movie_id  the item
--   title     the title; empty if unknown
--   genres    genres, separated by |
CREATE TABLE IF NOT EXISTS raw.movies
(
    movie_id Int64 COMMENT 'item',
    title    String COMMENT 'title for people; empty where unknown',
    genres   String COMMENT 'genres, separated by |'
)
ORDER BY movie_id
COMMENT 'The items there are; one row a movie'
