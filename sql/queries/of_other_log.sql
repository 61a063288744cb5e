-- Purpose: what was shipped from an interaction log, of some numbers.
-- Grain:   one row per interaction, by number.
-- Parameters:
--   log_id       the log
--   after, last  above this number, up to this one
-- Columns:
--   seq               its number in the log
--   user_id, item_id  as text
--   rating            NULL for a viewing
--   at_ms             when, milliseconds since 1970
SELECT seq, user_id, item_id, rating, at_ms
FROM (
    SELECT
        seq,
        toString(user_id)                                           AS user_id,
        toString(movie_id)                                          AS item_id,
        CAST(rating AS Nullable(Float64))                           AS rating,
        toUnixTimestamp64Milli(toDateTime64(rated_at, 3, 'UTC'))    AS at_ms
    FROM raw.ratings
    WHERE log_id = {log_id:String} AND seq > {after:UInt64} AND seq <= {last:UInt64}
    UNION ALL
    SELECT
        seq,
        toString(user_id)                                           AS user_id,
        toString(movie_id)                                          AS item_id,
        CAST(NULL AS Nullable(Float64))                             AS rating,
        toUnixTimestamp64Milli(toDateTime64(watched_at, 3, 'UTC'))  AS at_ms
    FROM raw.watched_movies
    WHERE log_id = {log_id:String} AND seq > {after:UInt64} AND seq <= {last:UInt64}
)
ORDER BY seq
