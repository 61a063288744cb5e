-- Purpose: users who were forgotten, so that no batch of a model trained before brings them back.
-- Grain:   a user; rows are added by `rankline forget`, and taken away by `rankline forget --lift` alone.
-- Columns: digest: hexadecimal sha256 of the salt and the id as text. The id is not kept; but who may read this table
--          and can guess an id can test it, so it is for those alone who publish.
CREATE TABLE IF NOT EXISTS analytics.forgotten
(
    at     DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'when',
    salt   String COMMENT 'random; the same in all rows',
    digest String COMMENT 'sha256 of salt and user id, hexadecimal'
)
ORDER BY digest
COMMENT 'Users who were forgotten, by a digest of their ids; one row a user'
