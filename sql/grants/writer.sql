-- Purpose: what publishing needs (score, rollback --table), and nothing else: raw.* is read and never written.
-- CREATE DATABASE: of these two names alone; a job says IF NOT EXISTS, and the server asks for the grant all the same.
-- CREATE TABLE, INSERT, DROP TABLE, SELECT: staged tables, their checks, and the exchange, which needs all four of both.
GRANT
    SELECT, CREATE DATABASE ON raw.*,
    SELECT, INSERT, CREATE DATABASE, CREATE TABLE, DROP TABLE ON analytics.*,
    TABLE ENGINE ON MergeTree,
    TABLE ENGINE ON ReplicatedMergeTree
TO rankline_writer
