-- Purpose: titles and genres of items, with and without interactions, those with the last ids.
-- Grain:   one row per item.
-- Parameters:
--   most  number of items
-- Columns:
--   item_id  the item, as text
--   title    title; empty if unknown
--   genres   genres, separated by |
SELECT
    toString(movie_id) AS item_id,
    any(title)         AS title,
    any(genres)        AS genres
FROM raw.movies
GROUP BY movie_id
ORDER BY movie_id DESC
LIMIT {most:UInt64}
