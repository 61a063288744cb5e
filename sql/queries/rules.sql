-- Purpose: the rules for a model, each once.
-- Grain:   one row per rule.
-- Parameters:
--   model  the name of the model
-- Columns:
--   all columns of analytics.rules but pushed_at, model and the times: a table that an older version of Rankline made has
--                      no quota and no label
--   from_ms, until_ms  when the rule begins and ends, milliseconds since 1970 (UTC); NULL: always, never
SELECT DISTINCT
    * EXCEPT (pushed_at, model, valid_from, valid_until),
    toUnixTimestamp64Milli(toDateTime64(rules.valid_from, 3, 'UTC'))  AS from_ms,
    toUnixTimestamp64Milli(toDateTime64(rules.valid_until, 3, 'UTC')) AS until_ms
FROM analytics.rules AS rules
WHERE rules.model IN ('', {model:String})
