"""The pictures of a run and the page that holds them, as files."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline import pictures
from pipeline.errors import RanklineError
from pipeline.exposure import Exposure, measure_exposure
from pipeline.factors import Factor, describe_factors, genres_of_factors
from pipeline.jobs.reporter import Reporter
from pipeline.kept import Draft
from pipeline.report_page import SHOWN_FACTORS, SHOWN_ITEMS, ItemName, ReportPage, factor_name, render
from pipeline.scorer import Scorer
from pipeline.settings import Settings
from pipeline.sources.choice import Chosen, open_warehouse
from pipeline.sources.warehouse import described
from pipeline.sql import load
from pipeline.standings import standings
from pipeline.train import Trained

__all__ = ["write_report"]

_LOOKED_UP = 3000  # titles and genres asked for, at most
_ITEMS_A_FACTOR = 60  # that its genres are of


def write_report(
    folder: Path, run: Draft, trained: Trained, chosen: Chosen, settings: Settings, reporter: Reporter
) -> Path:
    """``report.html`` and ``pictures/*.svg`` in the folder; of the run its id and name are used."""
    model = trained.model
    each = min(_ITEMS_A_FACTOR, max(SHOWN_ITEMS, _LOOKED_UP // model.n_components))
    factors = describe_factors(model.user_factors, model.item_factors, each)
    exposure = measure_exposure(Scorer(model), model.n_components)
    rows = [item.row for factor in factors for item in factor.items]
    rows = list(dict.fromkeys([row for row, _, _ in exposure.most_recommended(20)] + rows))[:_LOOKED_UP]
    names = _names(rows, trained, chosen, settings, reporter)
    genres = genres_of_factors(factors, {row: name.genres for row, name in names.items() if name.genres})
    judgement = trained.judgement
    beside = standings(judgement.evaluations, judgement.intervals) if judgement is not None else ()
    drawn = _drawn(trained, beside, exposure, factors, genres)
    page = ReportPage(
        title=run.name,
        run_id=run.id,
        facts=_facts(run, trained, chosen),
        standings=beside,
        lift=judgement.lift if judgement is not None else None,
        exposure=exposure,
        factors=factors,
        genres=genres,
        names=names,
        pictures=drawn,
        messages=(*chosen.notes, *trained.report.messages, *_levels(trained)),
        usage=_usage(run.id, trained),
    )
    (folder / "pictures").mkdir()
    for name, picture in drawn.items():
        (folder / "pictures" / f"{name}.svg").write_bytes(picture)
    (folder / "report.html").write_text(render(page), encoding="utf-8")
    return folder


def _names(
    rows: list[int], trained: Trained, chosen: Chosen, settings: Settings, reporter: Reporter
) -> dict[int, ItemName]:
    """What the items are called: by the warehouse where the mart was read, else by their ids.

    A file's ids, or those of a query of the user's own, may be others' than the warehouse's.
    """
    ids = trained.model.items.ids(rows).tolist() if rows else []
    known: Mapping[str, Any] = {}
    if (
        chosen.source == "warehouse"
        and chosen.query is not None
        and chosen.query.name == load("queries/interactions").name
    ):
        try:
            with open_warehouse(settings) as warehouse:
                known = described(warehouse, ids)
        except RanklineError as error:
            reporter.say(f"no titles in report.html: {error}")
    found = {}
    for row, item in zip(rows, ids, strict=True):
        named = known.get(str(item))
        found[row] = ItemName(named.title or str(item), named.genres) if named else ItemName(str(item))
    return found


def _drawn(
    trained: Trained, beside: Any, exposure: Exposure, factors: tuple[Factor, ...], genres: Mapping[int, Any]
) -> dict[str, bytes]:
    drawn = {"loss": pictures.loss_curve(trained.losses)}
    if beside:
        drawn["metrics"] = pictures.metrics_beside_baselines(beside)
    if exposure.n_lists:
        drawn["recommended_share"] = pictures.recommended_share(exposure)
        drawn["recommended_items"] = pictures.recommended_by_item(exposure)
    shown = [factor for factor in factors if factor.items][:SHOWN_FACTORS]
    if len(shown) > 1:
        drawn["factors"] = pictures.factor_sizes(
            [factor_name(factor.number, genres.get(factor.number, ())) for factor in shown],
            [factor.mass for factor in shown],
            [factor.n_users / max(len(trained.model.users), 1) for factor in shown],
        )
    return drawn


def _facts(run: Draft, trained: Trained, chosen: Chosen) -> list[tuple[str, str]]:
    found = trained.found
    facts = [
        ("Users", f"{found['n_users']:,}"),
        ("Items", f"{found['n_items']:,}"),
        ("Interactions", f"{found['n_interactions']:,}"),
        ("Factors", str(found["n_components_used"])),
        ("From", chosen.where),
        ("Run", run.id),
    ]
    if trained.spec.transform != "none":
        facts.insert(4, ("Scores", trained.spec.transform))
    return facts


def _levels(trained: Trained) -> tuple[str, ...]:
    """Two of the factors of a model with biases are no tastes."""
    if trained.spec.biases != "yes":
        return ()
    k = trained.model.n_components
    return (f"factors {k - 2} and {k - 1} are the levels of the users and of the items (--biases), not tastes",)


def _usage(run_id: str, trained: Trained) -> list[tuple[str, str]]:
    user = shlex.quote(str(trained.model.users.values[0]))
    return [
        ("A user's list", f"rankline recommend {user} --model runs:/{run_id}"),
        ("Everybody's list, into analytics.recommendations", f"rankline score --model runs:/{run_id}"),
        (
            "In Python",
            "import mlflow\nfrom pipeline.scorer import Scorer\n\n"
            f'scorer = Scorer.load(mlflow.artifacts.download_artifacts(run_id="{run_id}", artifact_path=""))\n'
            f"items, scores = scorer.recommend({trained.model.users.values[0].item()!r}, k=10)",
        ),
    ]
