-- Purpose: the items there are, with what people call them.
-- Grain:   a movie.
CREATE TABLE IF NOT EXISTS raw.movies
(
    movie_id Int64 COMMENT 'item',
    title    String COMMENT 'title for people; empty where unknown',
    genres   String COMMENT 'genres, separated by |'
)
ORDER BY movie_id
COMMENT 'The items there are; one row a movie'
