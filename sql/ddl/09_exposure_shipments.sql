-- Purpose: the ledger of what was shipped from logs of exposures into analytics.exposures.
-- Grain:   one row per shipment; rows are only added, after the rows of the shipment.
-- Columns:
--   log_id               the log of exposures
--   first_seq, last_seq  the exposures of the shipment, by their numbers in the log
--   n_rows               rows that went into analytics.exposures
--   shipped_at           when, UTC, milliseconds
CREATE TABLE IF NOT EXISTS analytics.exposure_shipments
(
    log_id     String COMMENT 'the log of exposures',
    first_seq  UInt64 COMMENT 'number of the first exposure',
    last_seq   UInt64 COMMENT 'number of the last exposure',
    n_rows     UInt64 COMMENT 'rows in analytics.exposures',
    shipped_at DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'when'
)
ORDER BY (log_id, first_seq)
SETTINGS
    non_replicated_deduplication_window = 10000,
    replicated_deduplication_window_seconds = 604800,
    fsync_after_insert = 1,
    fsync_part_directory = 1
COMMENT 'What was shipped from logs of exposures; one row a shipment'
