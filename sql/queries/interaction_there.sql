-- Purpose: whether a table of events has an event.
-- Grain:   one row.
-- Parameters:
--   table, at_column        the table, in raw, and its column of times
--   user_id, movie_id       the event, ids as text
--   at                      its time, milliseconds since 1970, UTC
-- Columns:
--   n  rows of the event
SELECT count() AS n
FROM raw.{table:Identifier}
WHERE toString(user_id) = {user_id:String}
  AND toString(movie_id) = {movie_id:String}
  AND {at_column:Identifier} = fromUnixTimestamp64Milli({at:Int64}, 'UTC')
