-- Purpose: what users did after they were shown a list, where the interaction names the answer.
-- Grain:   one row per interaction that named an answer; rows are only added.
-- Columns:
--   request_id       X-Request-ID of the answer, as the client sent it with the interaction
--   user_id, item_id who did it with what, as text
--   rating           NULL where the item was only watched
--   at               when, UTC, milliseconds
--   log_id, seq      the interaction log that it came by, and its number there
CREATE TABLE IF NOT EXISTS analytics.outcomes
(
    request_id String COMMENT 'of the answer',
    user_id    String COMMENT 'the user, as text',
    item_id    String COMMENT 'the item, as text',
    rating     Nullable(Float32) COMMENT 'NULL: watched',
    at         DateTime64(3, 'UTC') COMMENT 'when',
    log_id     LowCardinality(String) COMMENT 'the interaction log',
    seq        UInt64 COMMENT 'its number there'
)
ORDER BY (at, request_id)
SETTINGS
    non_replicated_deduplication_window = 10000,
    replicated_deduplication_window_seconds = 604800,
    fsync_after_insert = 1,
    fsync_part_directory = 1
COMMENT 'Interactions that follow an answer; one row an interaction'
