-- Purpose: lists with more items of one genre or series than --max-per-genre and --max-per-series allow.
-- Grain:   one row per user and genre; none without such a limit.
-- Parameters:
--   staged          the staged table, in analytics
--   model_items     the model's items with their genres and series, in analytics
--   max_per_genre   largest number of items of one genre in a list; 0 for any number
--   max_per_series  the same of one series
-- Columns:
--   user_id  the user
--   genre    the genre, or "series: " and the series
--   n_items  items of it in the list
SELECT user_id, genre, count() AS n_items
FROM
(
    SELECT listed.user_id AS user_id, arrayJoin(items.genres) AS genre
    FROM analytics.{staged:Identifier} AS listed
    INNER JOIN analytics.{model_items:Identifier} AS items ON items.item_id = listed.item_id
    WHERE {max_per_genre:UInt32} > 0 OR {max_per_series:UInt32} > 0
)
GROUP BY user_id, genre
HAVING n_items > if(startsWith(genre, 'series: '), {max_per_series:UInt32}, {max_per_genre:UInt32})
