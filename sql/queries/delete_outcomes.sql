-- Purpose: delete outcomes from before all lists that are still logged: nothing is left that they could belong to.
-- Parameters:
--   before  rows of this time or later stay, milliseconds since 1970
ALTER TABLE analytics.outcomes
DELETE WHERE at < fromUnixTimestamp64Milli({before:Int64}, 'UTC')
