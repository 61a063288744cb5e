-- Purpose: titles and genres of some items.
-- Grain:   one row per item.
-- Parameters:
--   items  item ids, as text
-- Columns:
--   item_id  the item, as text
--   title    title; empty if unknown
--   genres   genres, separated by |
SELECT
    toString(movie_id) AS item_id,
    any(title)         AS title,
    any(genres)        AS genres
FROM raw.movies
WHERE toString(movie_id) IN {items:Array(String)}
GROUP BY movie_id
