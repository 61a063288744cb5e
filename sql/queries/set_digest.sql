-- Purpose: the rows of a set in three numbers, whatever their order, without when they were made.
-- Grain:   one row.
-- Parameters:
--   table  in analytics
SELECT count() AS n_rows, groupBitXor(digest) AS x, sum(digest) AS s
FROM
(
    SELECT cityHash64(
        toString(user_id), rank, toString(item_id), reinterpretAsUInt32(score),
        toString(source), toString(model_version), toString(run_id)
    ) AS digest
    FROM analytics.{table:Identifier}
)
