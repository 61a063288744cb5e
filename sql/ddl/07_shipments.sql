-- Purpose: the ledger of what was shipped from interaction logs into raw.ratings and raw.watched_movies.
-- Grain:   one row per shipment; rows are only added, after the rows of the shipment.
-- Columns:
--   log_id               the interaction log
--   first_seq, last_seq  the interactions of the shipment, by their numbers in the log
--   n_ratings            rows that went into raw.ratings
--   n_watched            rows that went into raw.watched_movies
--   shipped_at           when, UTC, milliseconds
CREATE TABLE IF NOT EXISTS raw.shipments
(
    log_id     String COMMENT 'the interaction log',
    first_seq  UInt64 COMMENT 'number of the first interaction',
    last_seq   UInt64 COMMENT 'number of the last interaction',
    n_ratings  UInt64 COMMENT 'rows in raw.ratings',
    n_watched  UInt64 COMMENT 'rows in raw.watched_movies',
    shipped_at DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'when'
)
ORDER BY (log_id, first_seq)
SETTINGS
    non_replicated_deduplication_window = 10000,
    replicated_deduplication_window_seconds = 604800,
    fsync_after_insert = 1,
    fsync_part_directory = 1
COMMENT 'What was shipped from interaction logs; one row a shipment'
