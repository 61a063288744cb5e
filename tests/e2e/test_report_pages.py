"""The report of a run: there in a real run, with titles; and a run without it is a run all the same."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from support.processes import Home

from pipeline.data.interactions import Interactions
from pipeline.data.sources.builder import ReadResult
from pipeline.data.sources.warehouse import describe, init
from pipeline.jobs import report
from pipeline.jobs.inputs import LoadedInput
from pipeline.jobs.run_pages import log_pages
from pipeline.options import TrainOptions
from pipeline.runtime.progress import Reporter
from pipeline.settings import Settings
from pipeline.training.train import Trained, train
from pipeline.warehouse import Warehouse
from pipeline.warehouse.sql import Sql, load

pytest_plugins = ["support.homes", "support.warehouse_fixtures"]

PICTURES = {"loss.svg", "metrics.svg", "recommended_share.svg", "recommended_items.svg", "factors.svg"}


class Kept:
    """A run that keeps what it is given."""

    id, name = "0123abcd", "NMF k=2 · <mine>"

    def __init__(self, folder: Path) -> None:
        self.target = folder
        self.files: dict[str, str] = {}

    def folder(self, path: Path) -> None:
        self.files = {str(p.relative_to(path)): p.read_text("utf-8") for p in path.rglob("*") if p.is_file()}


def trained_on(text_ids: bool = False, **options: object) -> tuple[Trained, LoadedInput]:
    rng = np.random.default_rng(1)
    cells = rng.choice(30 * 20, 300, replace=False)
    items = np.array([f"i'{v:02d}" for v in cells % 20]) if text_ids else cells % 20
    x = Interactions.of(cells // 20, items, rng.integers(1, 6, 300).astype(np.float32))
    trained = train(x, TrainOptions(n_components=2, **options))  # type: ignore[arg-type]
    return trained, LoadedInput(ReadResult(x, 300, 0, []), "file", "mine.csv")


def logged(
    tmp_path: Path, trained: Trained, chosen: LoadedInput, settings: Settings | None = None
) -> tuple[Kept, list[str]]:
    said: list[str] = []
    run = Kept(tmp_path)
    reporter = Reporter(said.append, lambda *_: None)
    log_pages(run, trained, chosen, settings or Settings(), reporter)  # type: ignore[arg-type]
    return run, said


@pytest.mark.parametrize("text_ids", [False, True])
def test_of_a_file_items_go_by_their_ids(tmp_path: Path, text_ids: bool) -> None:
    run, said = logged(tmp_path, *trained_on(text_ids))
    assert said == []
    assert set(run.files) == {"report.html", *(f"pictures/{name}" for name in PICTURES)}
    page = run.files["report.html"]
    assert "NMF k=2 · &lt;mine&gt;" in page
    assert ("i&#39;07" in page) == text_ids
    assert "runs:/0123abcd" in page
    assert "--n-components 2<" in page  # alone of the options it is not the default
    assert "What is recommended" in page
    again, _ = logged(tmp_path, *trained_on(text_ids))
    assert again.files == run.files


def test_without_a_holdout(tmp_path: Path) -> None:
    run, said = logged(tmp_path, *trained_on(holdout=0.0))
    assert said == []
    assert "pictures/metrics.svg" not in run.files
    assert "This model was not evaluated" in run.files["report.html"]
    assert "nothing is held out" in run.files["report.html"]


def test_biases_are_no_tastes(tmp_path: Path) -> None:
    run, said = logged(tmp_path, *trained_on(biases="yes", unobserved_weight=0.0))
    assert said == []
    assert "factors 0 and 1 are the levels of the users and of the items" in run.files["report.html"]


def test_with_an_evaluation_its_verdict_is_the_headline(tmp_path: Path) -> None:
    from evaluation.test_report import evaluation

    from pipeline.evaluation.significance import Interval, lift_over_popular

    trained, chosen = trained_on()
    good, bad = np.linspace(0.4, 0.6, 30), np.linspace(0.1, 0.3, 30)
    evaluation = SimpleNamespace(
        model="nmf",
        evaluations={"nmf": evaluation(good), "popular": evaluation(bad)},
        intervals={"nmf": Interval(0.5, 0.4321, 0.5678)},
        lift=lift_over_popular(good, bad),
    )
    names = ("model", "report", "facts", "spec", "losses", "data_digest", "choice")
    evaluated = SimpleNamespace(**{name: getattr(trained, name) for name in names}, evaluation=evaluation)
    run, said = logged(tmp_path, evaluated, chosen)  # type: ignore[arg-type]
    assert not said, said
    assert "NDCG@10 0.5000: 150 % better than most popular." in run.files["report.html"]
    assert "better, +150 % [" in run.files["report.html"]
    assert "0.4321 – 0.5678" in run.files["report.html"]


@pytest.mark.parametrize("fault", ["drawing", "import", "store"])
def test_what_goes_wrong_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    def broken(*_: object) -> None:
        raise ValueError("no\nink")

    if fault == "import":
        monkeypatch.setitem(sys.modules, "pipeline.jobs.report", None)
    elif fault == "drawing":
        monkeypatch.setattr("pipeline.evaluation.report.plots.loss_curve", broken)
    else:
        monkeypatch.setattr(Kept, "folder", broken)
    run, (line,) = logged(tmp_path, *trained_on())
    assert run.files == {}
    assert line.startswith("no report.html, or not all of it: ")
    assert "\n" not in line


def test_an_interruption_is_no_fault_of_the_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(report, "write_report", interrupted)
    with pytest.raises(KeyboardInterrupt):
        logged(tmp_path, *trained_on())


def test_a_warehouse_that_is_gone_costs_the_titles(tmp_path: Path) -> None:
    trained, chosen = trained_on()
    from_mart = LoadedInput(chosen.read, "warehouse", "clickhouse://x", load("queries/interactions"))
    gone = Settings(warehouse="clickhouse://127.0.0.1:9")
    run, (line,) = logged(tmp_path, trained, from_mart, gone)
    assert line.startswith("no titles in report.html: No warehouse answers")
    assert "What the factors mean" in run.files["report.html"]


def test_titles_and_genres_of_many_items(warehouse: Warehouse) -> None:
    assert describe(warehouse, [1]) == {}
    init(warehouse)
    n = 1203
    movies = {
        "movie_id": list(range(n)),
        "title": [f"It's {i}" for i in range(n)],
        "genres": ["Crime|Drama", "(no genres listed)", ""] * (n // 3),
    }
    warehouse.insert("raw.movies", pa.table(movies))
    described = describe(warehouse, [*range(n), "no-such-id"])
    assert len(described) == n
    assert described["0"] == ("It's 0", ("Crime", "Drama"), (), "")
    assert described["1201"] == ("It's 1201", (), (), "")
    assert described["1202"] == ("It's 1202", (), (), "")
    assert set(describe(warehouse, [0, 7, n - 1], 2)) == {"0", "7", *map(str, range(n - 5, n))}, "and the last of all"


@pytest.mark.slow
def test_a_real_run_has_its_report(trained: Home) -> None:
    (run,) = trained.runs()
    folder = trained.folder / "artifacts" / run.info.run_id / "artifacts"
    assert {path.name for path in (folder / "pictures").iterdir()} == PICTURES
    page = (folder / "report.html").read_text("utf-8")
    assert run.info.run_name in page
    assert "against item-kNN" in page
    assert "weaker factor" in page
    assert f"runs:/{run.info.run_id}" in page
    assert "Shawshank Redemption, The (1994)" in page
    assert re.search(r"<h3>Factor \d · [A-Z][\w-]+", page)
    assert run.data.metrics["cost/seconds_pages"] > 0


def test_a_query_of_the_users_own_has_no_titles_of_the_warehouse(embedded: Warehouse, tmp_path: Path) -> None:
    init(embedded)
    embedded.insert(
        "raw.movies", pa.table({"movie_id": list(range(20)), "title": ["Mart's"] * 20, "genres": [""] * 20})
    )
    trained, chosen = trained_on()
    settings = Settings(warehouse=embedded.address)
    for query, expected in ((load("queries/interactions"), True), (Sql("SELECT 1", "mine.sql"), False)):
        run, said = logged(tmp_path, trained, LoadedInput(chosen.read, "warehouse", "x", query), settings)
        assert said == []
        assert ("Mart&#39;s" in run.files["report.html"]) == expected


@pytest.mark.parametrize("algorithm", ["svd", "bpmf"])
def test_factors_that_mean_nothing_alone_are_not_described(tmp_path: Path, algorithm: str) -> None:
    trained, chosen = trained_on(algorithm=algorithm, max_iter=5)
    assert {"holdout/rmse", "holdout/mae", "rmse", "observed_rmse"} < trained.report.metrics.keys()
    assert "mae" not in trained.report.metrics
    run, said = logged(tmp_path, trained, chosen)
    assert said == []
    assert "pictures/factors.svg" not in run.files
    assert "mae over all cells left out" in run.files["report.html"]
