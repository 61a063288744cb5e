-- Purpose: move the rows of one staged table into another, where an experiment makes a set with two versions.
-- Grain:   one row per row of the other table.
-- Parameters:
--   staged, other  the two tables, in analytics
INSERT INTO analytics.{staged:Identifier}
SELECT * FROM analytics.{other:Identifier}
