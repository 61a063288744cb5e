-- Purpose: the genres of all items.
-- Grain:   one row per item and genre.
-- Columns:
--   item_id  the item, as text
--   genre    one of its genres
SELECT DISTINCT
    toString(movies.movie_id) AS item_id,
    genre
FROM raw.movies AS movies
ARRAY JOIN splitByChar('|', assumeNotNull(movies.genres)) AS genre
WHERE genre != ''
ORDER BY genre, item_id
