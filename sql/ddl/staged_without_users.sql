-- Purpose: an empty table of the columns of a staged one, for its rows without those of some users.
-- Grain:   a user and a rank.
-- Parameters:
--   scratch  its name in analytics
--   table    the staged table, in analytics
CREATE TABLE analytics.{scratch:Identifier}
ORDER BY (user_id, rank)
COMMENT 'Recommendations, best first; one row a user and a rank'
EMPTY AS
SELECT * FROM analytics.{table:Identifier}
