-- Purpose: which lists were shown to users in an experiment, by the API and by the published table.
-- Grain:   one row per answer and user, and one per loss; rows are only added.
-- Columns:
--   experiment, arm  the experiment, and the user's arm in it: a or b
--   request_id       X-Request-ID of the answer; of a list in the published table: table:TIME:USER, where TIME is its
--                    generated_at in milliseconds since 1970
--   user_id          the user, as text
--   model_version    version that made the list
--   manifest         X-Manifest of the answer: one id of the model's files, its items, the rules and the configuration;
--                    empty for the table, for a loss, and in rows of before there was one
--   source           what ranked it: the model's name, fold_in, popular, …; empty where the request failed
--   channel          api, table, or lost for a loss
--   items            the items of the list, as text, best first
--   status           HTTP status of the answer; 200 for the table
--   micros           time that the list took, microseconds; 0 for the table
--   n_lost           of a loss: how many exposures could not be logged; else 0
--   propensity       the chance with which this list was shown; NULL: it was certain
--   at               when it was shown, or published, UTC, milliseconds
--   log_id, seq      the log of exposures that it came by, and its number there; empty and 0 for the table
CREATE TABLE IF NOT EXISTS analytics.exposures
(
    experiment    LowCardinality(String) COMMENT 'the experiment',
    arm           LowCardinality(String) COMMENT 'a or b',
    request_id    String COMMENT 'of the answer',
    user_id       String COMMENT 'the user, as text',
    model_version LowCardinality(String) COMMENT 'version that made the list',
    manifest      LowCardinality(String) COMMENT 'X-Manifest of the answer',
    source        LowCardinality(String) COMMENT 'what ranked it',
    channel       LowCardinality(String) COMMENT 'api, table or lost',
    items         Array(String) COMMENT 'the list, best first',
    status        UInt16 COMMENT 'HTTP status',
    micros        UInt32 COMMENT 'microseconds that it took',
    n_lost        UInt32 COMMENT 'exposures that this loss stands for',
    propensity    Nullable(Float32) COMMENT 'the chance of this list; NULL: it was certain',
    at            DateTime64(3, 'UTC') COMMENT 'when',
    log_id        LowCardinality(String) COMMENT 'the log that it came by',
    seq           UInt64 COMMENT 'its number there'
)
ORDER BY (experiment, channel, user_id, at)
SETTINGS
    non_replicated_deduplication_window = 10000,
    replicated_deduplication_window_seconds = 604800,
    fsync_after_insert = 1,
    fsync_part_directory = 1
COMMENT 'Lists that were shown in experiments; one row an answer and user'
