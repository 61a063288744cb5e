-- Purpose: all users.
-- Grain:   one row per user.
-- Columns:
--   user_id  the user
-- Engine:  no engine is named. The server takes MergeTree, or ReplicatedMergeTree in a Replicated database.
CREATE TABLE IF NOT EXISTS raw.users
(
    user_id Int64 COMMENT 'user'
)
ORDER BY user_id
COMMENT 'The users there are; one row a user'
