-- Purpose: users who were forgotten, so that no batch of an older model publishes a list for them again.
-- Grain:   one row per user. `rankline forget` adds rows; only `rankline forget --lift` removes them.
-- Columns:
--   at      when the user was forgotten, UTC, milliseconds
--   salt    random text, the same in all rows
--   digest  sha256 of the salt and the user id as text, hexadecimal
-- The table holds no ids. But a reader who can guess an id can test it, so only publishers may read the table.
CREATE TABLE IF NOT EXISTS analytics.forgotten
(
    at     DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'when',
    salt   String COMMENT 'random; the same in all rows',
    digest String COMMENT 'sha256 of salt and user id, hexadecimal'
)
ORDER BY digest
COMMENT 'Users who were forgotten, by a digest of their ids; one row a user'
