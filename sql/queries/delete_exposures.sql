-- Purpose: delete the lists that experiments showed which ended long ago.
-- Parameters:
--   experiments  their names
--   before       rows of this time or later stay, milliseconds since 1970
ALTER TABLE analytics.exposures
DELETE WHERE experiment IN {experiments:Array(String)} AND at < fromUnixTimestamp64Milli({before:Int64}, 'UTC')
