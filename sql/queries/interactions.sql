-- Purpose: the interactions that a model is trained on, if no query is given with --query.
-- Grain:   one row per user and item.
-- Columns:
--   user_id  the user
--   item_id  the item
--   score    stars
--   at       time of the latest rating or viewing, UTC, milliseconds
SELECT
    user_id,
    movie_id            AS item_id,
    interaction_score   AS score,
    last_interaction_at AS at
FROM analytics.mart_user_movie_matrix
