-- Purpose: titles and genres of some items.
-- Grain:   an item.
-- Parameters:
--   items  item ids as text
SELECT
    toString(movie_id) AS item_id,
    any(title)         AS title,
    any(genres)        AS genres
FROM raw.movies
WHERE toString(movie_id) IN {items:Array(String)}
GROUP BY movie_id
