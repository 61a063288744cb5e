-- Purpose: two numbers that identify the rows of a table, in whatever order they are stored.
-- Grain:   one row.
-- Parameters:
--   database, table  the table
-- Columns:
--   n_rows    rows
--   checksum  sum of the rows' hashes, modulo 2⁶⁴, as text
SELECT count() AS n_rows, toString(sum(cityHash64(toString(tuple(*))))) AS checksum
FROM {database:Identifier}.{table:Identifier}
