-- Purpose: rules about items: which may be recommended, and from when until when.
-- Grain:   one row per rule; the same rule twice counts once. `rankline rules push` adds rows, and so may you.
-- Parameters:
--   table  its name in analytics: rules
-- Columns:
--   pushed_at    when the row was written, UTC, milliseconds
--   model        the name of the model (--name) that the rule is for; empty for all models
--   action       deny, allow or promote
--   item_id      the item, as text; empty in a rule of a genre
--   genre        a genre of raw.movies, in any case; empty in a rule of an item
--   valid_from   from when on the rule holds, UTC; NULL: always
--   valid_until  from when on it holds no more, UTC; NULL: never
--   reason       for people
--   quota        of promote: how many items of its label a list may hold because of it; NULL: 1
--   label        of promote: what readers are told
CREATE TABLE IF NOT EXISTS analytics.{table:Identifier}
(
    pushed_at   DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'when the row was written',
    model       String COMMENT 'name of the model; empty for all',
    action      LowCardinality(String) COMMENT 'deny, allow or promote',
    item_id     String COMMENT 'the item, as text; empty in a rule of a genre',
    genre       String COMMENT 'a genre of raw.movies; empty in a rule of an item',
    valid_from  Nullable(DateTime64(3, 'UTC')) COMMENT 'from when on it holds; NULL: always',
    valid_until Nullable(DateTime64(3, 'UTC')) COMMENT 'from when on it holds no more; NULL: never',
    reason      String COMMENT 'for people',
    quota       Nullable(UInt16) COMMENT 'of promote: items of its label in a list, at most',
    label       String COMMENT 'of promote: what readers are told'
)
ORDER BY (model, action, item_id, genre)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'Which items may be recommended, and when; one row a rule'
