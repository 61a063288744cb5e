-- Purpose: the tables that interactions are shipped into, and the ledger.
-- Grain:   one row per table.
-- Columns:
--   name          name in raw
--   engine        the table's engine
--   recognises    1 if the table takes an insert that is sent again under the same token once, else 0
--   lacks_tags    1 if it is a table of events without the columns of sql/ddl/raw_tags.sql
--   types         name → type of each column
SELECT
    tables.name   AS name,
    tables.engine AS engine,
    toUInt8(tables.engine NOT LIKE '%MergeTree' OR match(tables.engine, '^(Replicated|Shared)')
            OR match(tables.engine_full, 'non_replicated_deduplication_window = [1-9]')) AS recognises,
    toUInt8(tables.engine LIKE '%MergeTree' AND tables.name != 'shipments' AND tables.name NOT IN (
        SELECT tagged.table
        FROM system.columns AS tagged
        WHERE tagged.database = 'raw' AND tagged.name IN ('sent_log_id', 'sent_seq', 'log_id', 'seq')
        GROUP BY tagged.table
        HAVING count() = 4
    ))            AS lacks_tags,
    (
        SELECT CAST(groupArray((columns.table || '.' || columns.name, columns.type)), 'Map(String, String)')
        FROM system.columns AS columns
        WHERE columns.database = 'raw' AND columns.table IN ('ratings', 'watched_movies')
    )             AS types
FROM system.tables AS tables
WHERE tables.database = 'raw' AND tables.name IN ('ratings', 'watched_movies', 'shipments')
