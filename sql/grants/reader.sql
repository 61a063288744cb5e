-- Purpose: the rights of a reader. If your own query (--query) reads other tables, grant those here too.
-- A reader needs raw for titles, and because the mart is a view that runs with the reader's own rights.
GRANT
    SELECT ON raw.*,
    SELECT ON analytics.*
TO rankline_reader
