-- Purpose: users whose list is none: ranks that are not 1, 2, … n, each once; an item twice; scores that are not finite,
--          or do not fall (equal ones in the order of ids) from rank to rank. All in one pass over the rows.
-- Grain:   a user.
-- Parameters:
--   staged  the staged table, in analytics
-- Columns: wrong: ranks, items, scores, those of them that are; ranks, items and scores by rank.
WITH
    lists AS
    (
        SELECT
            user_id,
            groupArray(rank)    AS ranks_as_read,
            groupArray(item_id) AS items_as_read,
            groupArray(score)   AS scores_as_read
        FROM analytics.{staged:Identifier}
        GROUP BY user_id
    ),
    by_rank AS
    (
        SELECT
            user_id,
            arraySort(ranks_as_read)                                         AS ranks,
            arraySort((item, place) -> place, items_as_read, ranks_as_read)   AS items,
            arraySort((score, place) -> place, scores_as_read, ranks_as_read) AS scores,
            ranks != range(1, length(ranks) + 1)                             AS wrong_ranks,
            arrayUniq(items_as_read) != length(items_as_read)                AS wrong_items,
            NOT arrayAll(isFinite, scores_as_read) OR arrayExists(
                (score, item, next_score, next_item) -> score < next_score OR (score = next_score AND item > next_item),
                arrayPopBack(scores), arrayPopBack(items), arrayPopFront(scores), arrayPopFront(items)
            )                                                                AS wrong_scores
        FROM lists
    )
SELECT
    user_id,
    arrayFilter(
        word -> word != '',
        [if(wrong_ranks, 'ranks', ''), if(wrong_items, 'items', ''), if(wrong_scores, 'scores', '')]
    ) AS wrong,
    ranks,
    items,
    scores
FROM by_rank
WHERE wrong_ranks OR wrong_items OR wrong_scores
SETTINGS optimize_aggregation_in_order = 1
