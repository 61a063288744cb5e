-- Purpose: log the lists of a published table as exposures of an experiment; those that are logged already are left out.
-- Grain:   one row per user.
-- Parameters:
--   table       the published table, in analytics
--   experiment  the experiment
--   salt        its salt
--   until       buckets below it are arm a
INSERT INTO analytics.exposures
    (experiment, arm, request_id, user_id, model_version, source, channel, items, status, at)
SELECT
    {experiment:String},
    if(reinterpretAsUInt64(reverse(substring(SHA256(concat({salt:String}, ':', user)), 1, 8))) % 10000 < {until:UInt32},
        'a', 'b'),
    concat('table:', toString(toUnixTimestamp64Milli(published_at)), ':', user) AS request,
    user,
    version,
    made_by,
    'table',
    listed,
    200,
    published_at
FROM
(
    SELECT
        toString(user_id)                                                                 AS user,
        any(toString(model_version))                                                      AS version,
        argMin(toString(source), rank)                                                    AS made_by,
        arrayMap(place -> place.2, arraySort(groupArray((rank, toString(item_id)))))      AS listed,
        any(generated_at)                                                                 AS published_at
    FROM analytics.{table:Identifier}
    GROUP BY user
)
WHERE request NOT IN (
    SELECT request_id FROM analytics.exposures WHERE experiment = {experiment:String} AND channel = 'table'
)
