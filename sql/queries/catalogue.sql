-- Purpose: titles and genres of all items, with and without interactions.
-- Grain:   one row per item.
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
