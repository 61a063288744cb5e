"""Models of other kinds than NMF on the command line: from the training to a user's list."""

from __future__ import annotations

import json
import re

from support.processes import Home

pytest_plugins = ["support.homes"]

FORCE = ("--force", "--reason", "a test")


def test_item_knn_and_most_popular_are_trained_published_and_explained(trained_copy: Home) -> None:
    home = trained_copy
    done = home.many(
        ["train", "--algorithm", "item-KNN", "--n-neighbours", "50"],
        ["promote", "2", *FORCE],
        ["score", "--accept-changes", "yes"],
        ["show", "--user", "5"],
        ["why", "5", "480"],
        ["recommend", "5", "--json"],
        ["train", "--algorithm", "popular"],
        ["promote", "3"],
        ["promote", "3", *FORCE],
        ["score", "--accept-changes", "yes"],
        ["show", "--user", "5"],
        ["why", "5", "318"],
        ["recommend", "5"],
    )
    statuses, out, err = zip(*done, strict=True)
    assert statuses == (*[0] * 7, 3, *[0] * 5), [text[-300:] for text in err]
    knn, popular = out[:6], out[6:]

    assert "item-kNN · warehouse 671x9066 is registered as rankline/2" in knn[0]
    assert "holdout/rmse and holdout/mae left out: scores of item-kNN only order items" in err[0]
    assert "from rankline/2" in knn[2]
    assert "Recommended for user 5 (item-knn)" in knn[3]
    assert 'read it: rankline sql "SELECT * FROM analytics.recommendations WHERE user_id = 5 ORDER BY rank"' in knn[3]
    assert "by rankline/2 (item-knn)" in knn[4] or "by rankline/2 its score" in knn[4]
    assert re.search(r"the score is a sum over \d+ items of the user.s history; the largest parts:", knn[4])
    listed = json.loads(knn[5])
    assert (listed["source"], len(listed["items"])) == ("item-knn", 10)

    assert "next: rankline train trains lists for each user (the promotion gate would refuse rankline/3" in popular[0]
    assert "it becomes champion by --force --reason" in popular[1]
    assert "Recommended for user 5 (popular)" in popular[4]
    assert "the score is the same for everybody; 311 of the model's users have seen the item" in popular[5]
    assert re.search(r" 234\n", popular[6])  # numbers of interactions have no digits after the point
    assert home.sql("SELECT DISTINCT source, model_version FROM analytics.recommendations") == ["popular\t3"]
