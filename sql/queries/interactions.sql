-- Purpose: what a model learns from, where no query of the user's own is given.
-- Grain:   a user and an item.
-- Columns: score in stars; at in UTC.
SELECT
    user_id,
    movie_id            AS item_id,
    interaction_score   AS score,
    last_interaction_at AS at
FROM analytics.mart_user_movie_matrix
