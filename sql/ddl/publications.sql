-- Purpose: the log of publishing: what became of the published sets and of each staged table.
-- Grain:   one row per event; rows are only added.
-- Columns:
--   at               when, UTC, milliseconds
--   action           started, published, already published, refused, rolled back or forgot
--   staged           the staged table that the event is about, in analytics; its name says which model's it is
--   model_version    version of the rows
--   run_id           run of the rows
--   generated_at     when the rows were generated, UTC, milliseconds
--   n_rows           rows of the set
--   source_name      source of the interactions that the model was trained on; empty if unknown
--   note             checks that failed or were accepted; digest of the rules about items
--   host             machine of the job; empty if unknown
--   pid              process id of the job
--   process_started  start of that process, which tells it from a later process with the same id
-- host, pid and process_started show whether a table that was left behind belongs to a job that still runs.
-- Settings: the window lets the table recognise the token of an insert, as in the staged tables.
CREATE TABLE IF NOT EXISTS analytics.publications
(
    at              DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'when',
    action          LowCardinality(String) COMMENT 'started, published, already published, refused, rolled back, forgot',
    staged          String COMMENT 'the staged table, in analytics',
    model_version   String COMMENT 'lineage',
    run_id          String COMMENT 'lineage',
    generated_at    DateTime64(3, 'UTC') COMMENT 'of the rows',
    n_rows          UInt64 COMMENT 'rows of the set',
    source_name     String COMMENT 'source of the interactions that the model was trained on; empty if unknown',
    note            String COMMENT 'checks that failed or were accepted',
    host            String COMMENT 'where the job ran; empty where that can''t be told',
    pid             UInt32 COMMENT 'its process',
    process_started String COMMENT 'tells it from a later process of the same number'
)
ORDER BY at
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'What was published, refused and rolled back; one row an event'
