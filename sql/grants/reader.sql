-- Purpose: what a reader needs, and nothing else. A query of your own (--query) over other tables needs them here, too.
-- raw is there because the mart is a view that runs with the reader's own rights, and for titles.
GRANT
    SELECT ON raw.*,
    SELECT ON analytics.*
TO rankline_reader
