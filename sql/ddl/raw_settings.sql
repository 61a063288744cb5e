-- Purpose: the settings that a table of events lacks if an older version of Rankline created it.
-- Grain:   none.
-- Parameters:
--   table  the table, in raw
ALTER TABLE raw.{table:Identifier}
MODIFY SETTING
    non_replicated_deduplication_window = 10000,
    replicated_deduplication_window_seconds = 604800,
    fsync_after_insert = 1,
    fsync_part_directory = 1
