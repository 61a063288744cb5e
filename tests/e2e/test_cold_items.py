"""Cold items on the command line: from two files to a list with a new item in it, and why it is there."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from support.naive_cold_items import NEW, two_tastes
from support.processes import Home

pytest_plugins = ["support.homes"]

COMEDY = str(NEW["Comedy"])


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, ...]:
    x, texts = two_tastes()
    ids = zip(x.user_ids.ids(x.users), x.item_ids.ids(x.items), x.scores, strict=True)
    lines = "".join(f"{user},{item},{score:g}\n" for user, item, score in ids)
    (tmp_path / "ratings.csv").write_text("user_id,item_id,rating\n" + lines)
    items = "".join(f"{item},{texts.titles.get(item, '')},{'|'.join(of)}\n" for item, of in texts.genres.items())
    (tmp_path / "items.csv").write_text("item_id,title,genres\n" + items)
    return ("--source", "file", "--input", str(tmp_path / "ratings.csv"), "--items", str(tmp_path / "items.csv"))


@pytest.mark.takes(15)
def test_a_new_item_is_trained_published_and_explained(home: Home, files: tuple[str, ...]) -> None:
    cold = ("--cold-items", "5", "--n-components", "4", *files)
    by_items = ("evaluate", "--train", files[3], "--folds", "3", "--folds-of", "items", *files[4:])
    done = home.many(
        ["train", *cold, "--split", "items"],
        ["promote", "1", "--force", "--reason", "a test"],
        ["score", "--k", "30"],
        ["show", "--user", "0"],
        ["why", "0", COMEDY],
        ["recommend", "0", "--k", "30", "--json"],
        ["recommend", "1", "--k", "30", "--json"],
        ["train", *cold],
        ["evaluate", "--train", files[3], "--folds", "2", *files[4:], "--model", "nmf:cold_items=5,popular"],
        ["train", "--cold-items", "5", *files[:4]],
        ["tune", *cold],
        ["train", *cold, "--algorithm", "item-knn"],
        [*by_items, "--model", "nmf:cold_items=5,popular", "--json"],
        [*by_items, "--model", "nmf"],
        ["evaluate", "--train", files[3], "--test", files[3], "--folds-of", "items"],
    )
    statuses, out, err = zip(*done, strict=True)
    assert statuses == (*[0] * 9, 3, 2, 2, 0, 2, 2), [text[-300:] for text in err]
    assert "lists are of the 6 held-out items alone" in err[0]
    assert "2 items with fewer than 5 interactions (2 with none) have factors from 2 genres and 0 tags" in err[0]
    assert "random order" in out[0]
    assert "2 items with fewer than 5 interactions" in out[3]
    assert "a cold item: 0 of the model's users have it, fewer than 5, so its factors come from its genres" in out[4]
    lists = [json.loads(text)["items"] for text in out[5:7]]
    comedy, drama = ([listed.index(NEW[genre]) for listed in lists] for genre in ("Comedy", "Drama"))
    assert comedy[0] < drama[0]
    assert drama[1] < comedy[1]
    assert home.sql(f"SELECT count() FROM analytics.recommendations WHERE item_id = '{COMEDY}'") == ["40"]
    assert "lost" not in err[7]  # the champion's items without interactions
    assert "nmf:cold_items=5" in out[8]
    assert "give a file of items with --items" in err[9]
    by_model = json.loads(out[12])
    assert by_model["protocol"] == "held-out items"
    ndcg = {name: metrics["ndcg_at_10"] for name, metrics in by_model["models"].items()}
    assert ndcg["nmf:cold_items=5"] > max(ndcg["popular"], ndcg["random"])  # tastes are known, and the genres
    assert ndcg["held_out_popular"] > ndcg["random"]
    assert len(by_model["runs"]) == 3
    assert "no model knows whole items that are held out" in err[13]
    assert "--folds-of items is for --folds" in err[14]
    assert "A search ranks known items: leave out --cold-items" in err[10]
    assert "item-kNN has no --n-components, --cold-items" in err[11]

    folder = next(Path(home.folder).rglob("metadata.json")).parent
    facts = json.loads((folder / "metadata.json").read_text())["cold_items"]
    assert (facts["threshold"], facts["n_new"], len(facts["new_rows"])) == (5, 2, 2)
    assert "A new comedy" in np.load(folder / "items.npz")["title"].tolist()
