-- Purpose: the rules for a model, each once.
-- Grain:   one row per rule.
-- Parameters:
--   model  the name of the model
-- Columns:
--   action             deny or allow
--   item_id            the item, as text; empty in a rule of a genre
--   genre              the genre; empty in a rule of an item
--   from_ms, until_ms  when the rule begins and ends, milliseconds since 1970 (UTC); NULL: always, never
--   reason             for people
SELECT DISTINCT
    toString(rules.action)  AS action,
    toString(rules.item_id) AS item_id,
    toString(rules.genre)   AS genre,
    toUnixTimestamp64Milli(toDateTime64(rules.valid_from, 3, 'UTC'))  AS from_ms,
    toUnixTimestamp64Milli(toDateTime64(rules.valid_until, 3, 'UTC')) AS until_ms,
    toString(rules.reason)  AS reason
FROM analytics.rules AS rules
WHERE rules.model IN ('', {model:String})
ORDER BY action, item_id, genre, from_ms, until_ms, reason
