-- Purpose: users split by many salts, to see whether the split and the statistics find differences where there are none.
-- Grain:   one row per salt and arm.
-- Parameters:
--   salts  the salts
--   until  buckets below it are arm a
--   days   days before the last interaction in which one counts
-- Columns:
--   salt, arm          the salt, and a or b
--   n_users            users of the arm
--   n_active           of these, users who did something in these days
--   outcomes, outcomes_2  sum over users of how much they did, and of its square
WITH
    (SELECT max(last_interaction_at) FROM analytics.mart_user_movie_matrix) AS last_at,
    users AS
    (
        SELECT
            toString(user_id) AS user,
            toFloat64(countIf(last_interaction_at > last_at - toIntervalSecond(toUInt64({days:Float64} * 86400)))) AS n
        FROM analytics.mart_user_movie_matrix
        GROUP BY user
    )
SELECT
    salt,
    if(reinterpretAsUInt64(reverse(substring(SHA256(concat(salt, ':', user)), 1, 8))) % 10000 < {until:UInt32}, 'a', 'b')
        AS arm,
    count()        AS n_users,
    countIf(n > 0) AS n_active,
    sum(n)         AS outcomes,
    sum(n * n)     AS outcomes_2
FROM users
ARRAY JOIN {salts:Array(String)} AS salt
GROUP BY salt, arm
ORDER BY salt, arm
