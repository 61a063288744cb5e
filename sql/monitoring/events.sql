-- Purpose: what users did, if no query is given and the mart is the view that Rankline made.
-- Grain:   one row per rating or viewing event.
-- Columns:
--   user_id  the user
--   item_id  the item
--   at       when, UTC, milliseconds
SELECT user_id, movie_id AS item_id, rated_at AS at
FROM raw.ratings
UNION ALL
SELECT user_id, movie_id AS item_id, watched_at AS at
FROM raw.watched_movies
