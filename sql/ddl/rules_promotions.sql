-- Purpose: add the columns of promotions to an analytics.rules that an older version of Rankline made.
-- Grain:   one row per rule, as before; older rows get NULL and the empty string.
ALTER TABLE analytics.rules
    ADD COLUMN IF NOT EXISTS quota Nullable(UInt16) COMMENT 'of promote: items of its label in a list, at most',
    ADD COLUMN IF NOT EXISTS label String COMMENT 'of promote: what readers are told'
