-- Purpose: three numbers that identify the rows of a set, in whatever order they are stored. generated_at is left out.
-- Grain:   one row.
-- Parameters:
--   table  the set, in analytics
-- Columns:
--   n_rows  rows
--   x       bitwise xor of the rows' hashes
--   s       sum of the rows' hashes, modulo 2⁶⁴
SELECT count() AS n_rows, groupBitXor(digest) AS x, sum(digest) AS s
FROM
(
    SELECT cityHash64(
        toString(user_id), rank, toString(item_id), reinterpretAsUInt32(score),
        toString(source), toString(model_version), toString(run_id)
    ) AS digest
    FROM analytics.{table:Identifier}
)
