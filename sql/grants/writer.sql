-- Purpose: the rights of a publisher (score, rollback --table, rules push). It reads raw and never writes to it.
-- CREATE DATABASE covers these two names only. A job runs CREATE DATABASE IF NOT EXISTS, for which the server asks for
-- the right even if the database exists.
-- SELECT, INSERT, CREATE TABLE and DROP TABLE are for the staged tables and their checks, and for the exchange of two
-- tables, which needs all four on both.
-- ALTER DELETE is for what was logged of A/B tests that ended long ago (rankline retain).
-- ALTER ADD COLUMN adds the column that a table of an older version of Rankline lacks.
GRANT
    SELECT, CREATE DATABASE ON raw.*,
    SELECT, INSERT, CREATE DATABASE, CREATE TABLE, DROP TABLE ON analytics.*,
    ALTER ADD COLUMN ON analytics.publications,
    ALTER DELETE ON analytics.exposures,
    ALTER DELETE ON analytics.outcomes,
    TABLE ENGINE ON MergeTree,
    TABLE ENGINE ON ReplicatedMergeTree
TO rankline_writer
