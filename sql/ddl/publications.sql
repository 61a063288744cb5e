-- Purpose: what happened to analytics.recommendations, and to the staged tables that became it or did not.
-- Grain:   an event; rows are only ever added.
-- Columns: action: started, published, already published, refused, rolled back, forgot; staged: the table it is about, in
--          analytics; note: the checks that failed or were accepted; host, pid and process_started: who did it, so
--          that what a dead job left behind can be told from a running one's.
-- Settings: a window for insert tokens, as of the staged tables.
CREATE TABLE IF NOT EXISTS analytics.publications
(
    at              DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'when',
    action          LowCardinality(String) COMMENT 'started, published, already published, refused, rolled back, forgot',
    staged          String COMMENT 'the staged table, in analytics',
    model_version   String COMMENT 'lineage',
    run_id          String COMMENT 'lineage',
    generated_at    DateTime64(3, 'UTC') COMMENT 'of the rows',
    n_rows          UInt64 COMMENT 'rows of the set',
    note            String COMMENT 'checks that failed or were accepted',
    host            String COMMENT 'where the job ran; empty where that can''t be told',
    pid             UInt32 COMMENT 'its process',
    process_started String COMMENT 'tells it from a later process of the same number'
)
ORDER BY at
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'What was published, refused and rolled back; one row an event'
