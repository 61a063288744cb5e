"""Writes the report of a run: an HTML page and its pictures."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import __version__
from pipeline.data.sources.warehouse import describe
from pipeline.errors import RanklineError
from pipeline.evaluation.popularity import PopularityConcentration, popularity_concentration
from pipeline.evaluation.report import plots
from pipeline.evaluation.report.html import (
    SHOWN_FACTORS,
    SHOWN_ITEMS,
    ItemName,
    ReportPage,
    UserExample,
    factor_name,
    render,
)
from pipeline.evaluation.report.scores import ScoreRow, score_rows
from pipeline.evaluation.report.verdicts import AgainstLine, against, against_champion, against_item_knn
from pipeline.evaluation.storage import StoredEvaluation
from pipeline.jobs.inputs import LoadedInput, open_warehouse
from pipeline.models.saved_model import SavedModel
from pipeline.options import Names, TrainOptions
from pipeline.ranking.factors import FactorDescription, describe_factors, genres_of_factors
from pipeline.ranking.scorer import Scorer
from pipeline.runtime.progress import Reporter
from pipeline.settings import Settings
from pipeline.tracking.outbox_writer import PendingRunWriter
from pipeline.training.choice_report import candidate_rows, column_titles, how_chosen, metric_title
from pipeline.training.train import Trained
from pipeline.warehouse.sql import load

__all__ = ["write_report"]

_LOOKED_UP = 3000  # maximum number of items to look up titles and genres for
_ITEMS_A_FACTOR = 60  # items per factor to take its genres from


def write_report(
    folder: Path,
    run: PendingRunWriter,
    trained: Trained,
    chosen: LoadedInput,
    settings: Settings,
    reporter: Reporter,
    champion: StoredEvaluation | None = None,
) -> Path:
    """Write ``report.html`` and ``pictures/*.svg`` into the folder. Only the id and name of `run` are used.

    champion : the champion's evaluation, to compare with
    """
    model = trained.model
    k = int(trained.facts.get("n_components_used", 0))
    each = min(_ITEMS_A_FACTOR, max(SHOWN_ITEMS, _LOOKED_UP // max(k, 1)))
    # Factors of any sign mean nothing alone: a rotation of them gives the same scores.
    named = k and "fold_in" not in model.meta
    factors = describe_factors(model.user_factors, model.item_factors, each) if named else ()
    exposure = popularity_concentration(Scorer(model), max(k, 1))
    rows = [item.row for factor in factors for item in factor.items]
    example = _example(model)
    listed = [*(row for row, _ in example.liked), *example.recommended] if example is not None else []
    rows = list(dict.fromkeys([*listed, *(row for row, _, _ in exposure.most_recommended(20)), *rows]))[:_LOOKED_UP]
    names = _names(rows, trained, chosen, settings, reporter)
    genres = genres_of_factors(factors, {row: name.genres for row, name in names.items() if name.genres})
    evaluation = trained.evaluation
    compared: tuple[ScoreRow, ...] = ()
    if evaluation is not None:
        compared = score_rows(evaluation.evaluations, evaluation.intervals, evaluation.model)
    drawn = _drawn(trained, compared, exposure, factors, genres)
    page = ReportPage(
        title=run.name,
        run_id=run.id,
        facts=_facts(run, trained, chosen),
        score_rows=compared,
        lift=evaluation.lift if evaluation is not None else None,
        exposure=exposure,
        factors=factors,
        genres=genres,
        names=names,
        pictures=drawn,
        messages=(*chosen.notes, *trained.report.messages, *_levels(trained)),
        usage=_usage(run.id, trained, settings.names),
        against=_against(trained, champion),
        example=example,
        **_choice(trained),
    )
    (folder / "pictures").mkdir()
    for name, picture in drawn.items():
        (folder / "pictures" / f"{name}.svg").write_bytes(picture)
    (folder / "report.html").write_text(render(page), encoding="utf-8")
    return folder


def _names(
    rows: list[int], trained: Trained, chosen: LoadedInput, settings: Settings, reporter: Reporter
) -> dict[int, ItemName]:
    """Names of the items: titles from the warehouse if the training read its mart, else their ids.

    The ids of a file or of the user's own query may mean other items in the warehouse.
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
                known = describe(warehouse, ids)
        except RanklineError as error:
            reporter.say(f"no titles in report.html: {error}")
    names = {}
    for row, item in zip(rows, ids, strict=True):
        text = known.get(str(item))
        names[row] = ItemName(text.title or str(item), text.genres) if text else ItemName(str(item))
    return names


def _drawn(
    trained: Trained,
    rows: Any,
    exposure: PopularityConcentration,
    factors: tuple[FactorDescription, ...],
    genres: Mapping[int, Any],
) -> dict[str, bytes]:
    drawn = {"loss": plots.loss_curve(trained.losses)} if trained.losses.size else {}
    if (choice := trained.choice) is not None:
        metric = metric_title(choice.metric)
        drawn["candidates"] = plots.candidates_with_intervals(candidate_rows(choice), metric)
    if rows:
        drawn["metrics"] = plots.metrics_beside_baselines(rows)
    if exposure.n_lists:
        drawn["recommended_share"] = plots.recommended_share(exposure)
        drawn["recommended_items"] = plots.recommended_by_item(exposure)
    shown = [factor for factor in factors if factor.items][:SHOWN_FACTORS]
    if len(shown) > 1:
        drawn["factors"] = plots.factor_sizes(
            [factor_name(factor.number, genres.get(factor.number, ())) for factor in shown],
            [factor.mass for factor in shown],
            [factor.n_users / max(len(trained.model.users), 1) for factor in shown],
        )
    return drawn


def _choice(trained: Trained) -> dict[str, Any]:
    """How the model was chosen, for the page; {} where it was named."""
    if (choice := trained.choice) is None:
        return {}
    return {
        "chosen": how_chosen(choice),
        "candidate_titles": column_titles(choice),
        "candidates": candidate_rows(choice),
    }


def _example(model: SavedModel) -> UserExample | None:
    """The list of a user with a history of median length, beside the items that they rated highest."""
    n = np.diff(model.seen.indptr)
    if not n.size:
        return None
    row = int(np.argsort(n, kind="stable")[n.size // 2])
    cells = slice(model.seen.indptr[row], model.seen.indptr[row + 1])
    items, scores = model.seen.indices[cells], np.asarray(model.seen.data[cells], np.float64)
    best = np.argsort(-scores, kind="stable")[:SHOWN_ITEMS]
    listed = Scorer(model).recommend_rows(np.array([row]), 10).items[0]
    liked = [(int(items[i]), float(scores[i])) for i in best]
    return UserExample(str(model.users.values[row]), int(n[row]), liked, [int(item) for item in listed if item >= 0])


def _against(trained: Trained, champion: StoredEvaluation | None) -> list[AgainstLine]:
    evaluation = trained.evaluation
    if evaluation is None or evaluation.lift is None:
        return []
    model = next(iter(evaluation.evaluations))
    lines = [against("most popular", evaluation.lift)]
    if (line := against_item_knn(evaluation, model)) is not None:
        lines.append(line)
    if champion is not None:
        lines.append(against_champion(evaluation, model, trained.data_digest, champion))
    return lines


def _facts(run: PendingRunWriter, trained: Trained, chosen: LoadedInput) -> list[tuple[str, str]]:
    counts = trained.facts
    facts = [
        ("Users", f"{counts['n_users']:,}"),
        ("Items", f"{counts['n_items']:,}"),
        ("Interactions", f"{counts['n_interactions']:,}"),
        *([("Factors", str(counts["n_components_used"]))] if "n_components_used" in counts else []),
        ("From", chosen.where),
        ("Options", _options(trained)),
        ("Run", run.id),
        ("Made", f"{datetime.now(UTC):%Y-%m-%d} by Rankline {__version__}"),
    ]
    if trained.spec.transform != "none":
        facts.insert(4, ("Scores", trained.spec.transform))
    return facts


def _options(trained: Trained) -> str:
    """The options that differ from their defaults, as command-line options."""
    defaults, options = asdict(TrainOptions()), asdict(trained.spec)
    changed = [f"--{name.replace('_', '-')} {value}" for name, value in options.items() if value != defaults[name]]
    return " ".join(changed) or "the defaults"


def _levels(trained: Trained) -> tuple[str, ...]:
    """A note for a model with biases: two of its factors are levels, not tastes."""
    if trained.spec.biases != "yes":
        return ()
    k = trained.model.n_components
    return (f"factors {k - 2} and {k - 1} are the levels of the users and of the items (--biases), not tastes",)


def _usage(run_id: str, trained: Trained, names: Names) -> list[tuple[str, str]]:
    user = shlex.quote(str(trained.model.users.values[0]))
    return [
        ("A user's list", f"rankline recommend {user} --model runs:/{run_id}"),
        (f"Everybody's list, into {names.table}", f"rankline score --model runs:/{run_id}{names.typed}"),
        (
            "In Python",
            "import mlflow\nfrom pipeline.ranking.scorer import Scorer\n\n"
            f'scorer = Scorer.load(mlflow.artifacts.download_artifacts(run_id="{run_id}", artifact_path=""))\n'
            f"items, scores = scorer.recommend({trained.model.users.values[0].item()!r}, k=10)",
        ),
    ]
