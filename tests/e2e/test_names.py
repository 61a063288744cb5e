"""Two models side by side over one store and one warehouse, as a person types the commands."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from support.processes import Home

from pipeline.errors import ServerError
from pipeline.jobs.resume import resume_job
from pipeline.jobs.train import train_job
from pipeline.options import Names, ReadOptions, TrainOptions
from pipeline.runtime.progress import Reporter, silent
from pipeline.settings import Settings
from pipeline.tracking import registry

pytest_plugins = ["support.homes"]

SHOP = ("--name", "shop")
FORCE = ("--force", "--reason", "a test")


def ran(home: Home, *commands: list[str], **env: str) -> list[str]:
    """What each of the commands printed; all of them come through."""
    done = home.many(*commands, **env)
    for command, (status, _, errors) in zip(commands, done, strict=True):
        assert status == 0, (command, errors)
    return [output for _, output, _ in done]


def state(home: Home, table: str) -> list[str]:
    return home.sql(f"SELECT model_version, count() > 1000, uniqExact(run_id) FROM analytics.{table} GROUP BY 1")


def champion(home: Home, model: str) -> str:
    return str(home.client().get_model_version_by_alias(model, "champion").version)


def test_two_models_side_by_side(trained_copy: Home) -> None:
    home = trained_copy
    small = ["--max-iter", "5", "--holdout", "0"]
    first = ran(
        home,
        ["promote", "1", *FORCE],
        ["train", *SHOP, *small, "--n-components", "3"],
        ["promote", "1", *SHOP, *FORCE],
        ["score", *SHOP],
        ["train", *SHOP, *small, "--n-components", "4"],
        ["promote", *SHOP, *FORCE],
        ["score", *SHOP],
        ["show", *SHOP, "--no-metrics"],
        ["diff", *SHOP],
    )
    assert "is registered as shop/1" in first[1]
    assert "shop/1 is the champion now" in first[2]
    assert "rankline score --name shop" in first[2]
    assert "to analytics.recommendations_shop in" in first[3]
    assert "shop/2 is the champion now, after shop/1" in first[5]
    assert "table: analytics.recommendations_shop" in first[7]
    assert first[8].startswith("before: analytics.recommendations_shop_previous (version 1, ")
    assert (champion(home, "rankline"), champion(home, "shop")) == ("1", "2")
    assert [entry.version for entry in home.client().search_model_versions("name = 'rankline'")] == [1]
    published = state(home, "recommendations")
    assert state(home, "recommendations_shop") == ["2\t1\t1"]
    assert state(home, "recommendations_shop_previous") == ["1\t1\t1"]

    (row,) = home.sql("SELECT user_id, item_id FROM analytics.recommendations_shop WHERE rank = 1 LIMIT 1")
    user, item = row.split("\t")
    again = [
        home.rankline(*command, env={"RANKLINE_NAME": "shop"})
        for command in (
            ["why", user, item],
            ["rollback"],
            ["rollback", "--table"],
            ["recommend", user, "--model", "2", "--json"],
            ["recommend", user, "--json"],
            ["recommend", user, "--model", "rankline/1", "--json"],
        )
    ]
    assert [done.returncode for done in again] == [0] * 6, [done.stderr for done in again]
    assert "by shop/2" in again[0].stdout
    assert "shop/1 is the champion again, after shop/2" in again[1].stdout
    assert "analytics.recommendations_shop" in again[2].stdout
    assert [json.loads(done.stdout)["model"] for done in again[3:]] == ["shop/2", "shop/1", "rankline/1"]
    assert (champion(home, "rankline"), champion(home, "shop")) == ("1", "1")
    assert state(home, "recommendations") == published
    assert state(home, "recommendations_shop") == ["1\t1\t1"]

    forgotten = home.rankline("forget", user, "--yes", "--json")
    assert forgotten.returncode == 0, forgotten.stderr
    data = json.loads(forgotten.stdout)
    assert {"analytics.recommendations", "analytics.recommendations_shop"} <= set(data["rows"])
    assert sorted(version for run in data["runs"] for version in run["versions"]) == ["1", "shop/1", "shop/2"]
    assert "c.delete_model_version('shop', '2')" in data["commands"][0]
    for table in ("recommendations", "recommendations_shop"):
        assert home.sql(f"SELECT count() FROM analytics.{table} WHERE user_id = {user}") == ["0"]
    printed = home.rankline("forget", user, "--dry-run").stdout
    assert re.search(r"shop/1 still holds the user", printed)
    assert "rankline/1 is the champion" in printed
    assert "shop/1 is the champion" in printed


@pytest.mark.parametrize("name", ["Shop", "shop_previous", "staged_x"])
def test_a_name_that_is_not_allowed(home: Home, name: str) -> None:
    (home.folder / "rankline.yaml").write_text(f"model:\n  name: {name}\n")
    for done in (
        home.rankline("score", "--name", name),
        home.rankline("train", env={"RANKLINE_NAME": name}),
        home.rankline("show", "--config", "rankline.yaml"),
    ):
        assert done.returncode == 2
        assert "name must be a lower-case letter" in done.stderr


def test_the_version_of_another_model_is_not_promoted(trained_copy: Home) -> None:
    done = trained_copy.rankline("promote", "rankline/1", *SHOP, *FORCE)
    assert done.returncode == 3
    assert "rankline/1 is no version of 'shop'" in done.stderr
    (trained_copy.folder / "rankline.yaml").write_text("model:\n  name: shop\n")
    done = trained_copy.rankline("promote", "--config", "rankline.yaml", *FORCE)
    assert done.returncode == 3
    assert "No model of the name 'shop'" in done.stderr


def write_ratings(folder: Path) -> Path:
    """A file with 30 users."""
    path = folder / "ratings.csv"
    lines = [f"{pair // 40},{pair % 40},{1 + pair % 5}" for pair in range(0, 1200, 3)]
    path.write_text("user_id,item_id,rating\n" + "\n".join(lines) + "\n")
    return path


def test_searches_of_two_names_share_no_trials(home: Home) -> None:
    """The same data and options: each name has its own file of trials, its own runs and its own model."""
    ratings = write_ratings(home.folder)
    tune = ["tune", "--source", "file", "--input", str(ratings), "--max-iter", "5", "--trials", "2"]
    done = home.many(tune, [*tune, *SHOP], [*tune, *SHOP])
    assert [status for status, _, _ in done] == [0, 0, 0], done
    assert {path.name for path in home.folder.glob("tuning*.db")} == {"tuning.db", "tuning_shop.db"}
    resumed = ["earlier runs" in errors or "trials of" in errors for _, _, errors in done]
    assert resumed[:2] == [False, False], done
    assert [len(home.client().search_model_versions(f"name = '{name}'")) for name in ("rankline", "shop")] == [1, 2]


def refuse(*_: object, **__: object) -> None:
    raise ServerError("The registry is away")


def test_a_saved_training_is_uploaded_to_the_model_of_its_name(home: Home) -> None:
    """Whatever name `resume` is called with."""
    ratings = write_ratings(home.folder)
    reporter = Reporter(lambda _: None, silent)
    read = ReadOptions(source="file", input=ratings)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in home.env.items():
            patch.setenv(name, value)
        with pytest.MonkeyPatch.context() as away:
            away.setattr(registry, "register", refuse)
            with pytest.raises(ServerError, match="rankline resume"):
                train_job(TrainOptions(max_iter=3), read, Settings().named(Names("shop")), reporter)
        (resumed,) = resume_job(None, Settings(), reporter)
    assert (resumed.model, resumed.version) == ("shop", "1")
    assert not home.client().search_model_versions("name = 'rankline'")
