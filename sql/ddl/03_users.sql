-- Purpose: the users there are.
-- Grain:   a user.
-- Engine:  none is named here: it is the server's MergeTree, or ReplicatedMergeTree in a Replicated database.
CREATE TABLE IF NOT EXISTS raw.users
(
    user_id Int64 COMMENT 'user'
)
ORDER BY user_id
COMMENT 'The users there are; one row a user'
