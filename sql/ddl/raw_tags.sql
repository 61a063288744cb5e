-- Purpose: the columns by which other hosts' services find what was shipped, in a table of events that an older version of
--          Rankline created.
-- Grain:   none; older rows get the empty string and 0.
-- Parameters:
--   table  the table, in raw
ALTER TABLE raw.{table:Identifier}
    ADD COLUMN IF NOT EXISTS sent_log_id String EPHEMERAL '' COMMENT 'log_id, in an insert',
    ADD COLUMN IF NOT EXISTS sent_seq UInt64 EPHEMERAL 0 COMMENT 'seq, in an insert',
    ADD COLUMN IF NOT EXISTS log_id LowCardinality(String) MATERIALIZED sent_log_id COMMENT 'the interaction log that it was shipped from',
    ADD COLUMN IF NOT EXISTS seq UInt64 MATERIALIZED sent_seq COMMENT 'its number there'
