-- Purpose: users with an invalid list. In a valid list the ranks are 1, 2, … n, no item occurs twice, all scores are
--          finite, and scores fall from rank to rank (equal scores: by item id, ascending).
-- Grain:   one row per user.
-- Parameters:
--   staged  the staged table, in analytics
-- Columns:
--   user_id  the user
--   wrong    what is invalid: any of ranks, items, scores
--   ranks    the ranks, ascending
--   items    the item ids, by rank
--   scores   the scores, by rank
-- One pass over the rows tests all of this.
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
