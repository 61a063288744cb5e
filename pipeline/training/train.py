"""`train(interactions, spec) → Trained`: prepare, evaluate on a holdout, fit. It uses no MLflow and no warehouse."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.interactions import Interactions
from pipeline.data.matrix import UserItems, to_matrix
from pipeline.data.prepare import Preparation, PreparedInteractions, prepare_interactions
from pipeline.data.splits import Split, holdout, make_split
from pipeline.errors import InputError, UsageError
from pipeline.evaluation.holdout import HoldoutEvaluation, evaluate_holdout
from pipeline.evaluation.metric_names import current_names
from pipeline.evaluation.results import Report
from pipeline.models import registry
from pipeline.models.base import Algorithm, Fitted
from pipeline.models.cold_items import complete, features_for
from pipeline.models.item_features import ItemFeatures
from pipeline.models.item_snapshot import ItemTexts
from pipeline.models.model_files import REPEATS
from pipeline.models.solvers.steps import Engine
from pipeline.options import TrainOptions
from pipeline.ranking.scorer import Scorer
from pipeline.runtime.progress import Progress, silent
from pipeline.training.choice import Choice
from pipeline.training.fit_report import fit_report
from pipeline.training.stages import Stages

__all__ = [
    "Trained",
    "candidate",
    "checked_algorithm",
    "fit_matrix",
    "require_distributed",
    "split_interactions",
    "train",
]

_FITS = ("holdout's fit", "fit")


@dataclass(frozen=True, eq=False)
class Trained:
    """Attributes
    ----------
    algorithm : that was trained
    model : fitted on all interactions; `meta` holds spec, facts and metrics
    report : metrics by their logged names, and sentences about what was left out
    data_digest : sha256 of all interactions that were read
    facts : of the fit: n_components_used, matrix_shape, …
    seconds : by stage
    evaluation : the model and its baselines on the held-out part; None where nothing was held out
    choice : of the algorithm and its options; None where they were named
    """

    algorithm: Algorithm
    model: Any
    matrix: UserItems
    report: Report
    fitted: Fitted
    data_digest: str
    facts: Mapping[str, Any]
    seconds: Mapping[str, float]
    spec: TrainOptions
    evaluation: HoldoutEvaluation | None = None
    choice: Choice | None = None

    @property
    def interrupted(self) -> tuple[str, ...]:
        """The fits that Ctrl-C ended early and whose factors are used."""
        return tuple(name for name in _FITS if any(_cut(name) in message for message in self.report.messages))

    @property
    def losses(self) -> NDArray[np.float64]:
        """`Fitted.losses` of the final fit, (n_iter,)."""
        return self.fitted.losses

    def estimator(self) -> Any:
        """The fitted scikit-learn estimator; None for a model that has none."""
        facts = self.fitted.estimator
        return None if facts is None else registry.rebuild_estimator(asdict(facts), self.losses, self.model)


def train(
    x: Interactions,
    spec: TrainOptions,
    progress: Progress = silent,
    texts: ItemTexts | None = None,
    engine: Engine | None = None,
) -> Trained:
    """Evaluate the model on a holdout, then fit the final model on all interactions.

    texts : genres and tags of items, for `spec.cold_items` and for a model that learns from genres
    engine : carries out the half-steps; default, this process

    Raises
    ------
    TooLittleDataError
        With fewer than `spec.min_data` interactions, before or after the filters.
    UsageError
        For an unknown model, for options that it does not have, and for options that do not fit the matrix.
    InputError
        For a model, a split or a half-life that needs times, where the data has none; for cold items without genres.
    """
    algorithm = checked_algorithm(spec, engine).told(texts)
    stages = Stages()
    with stages("matrix"):
        progress("matrix", 0, None)
        prepared = prepare_interactions(x, spec.duplicates, spec.min_interactions, spec.max_interactions, spec.min_data)
        report = _left_out(prepared)
        known = prepared.interactions
        matrix = to_matrix(known, spec.transform, spec.min_data, spec.half_life_days)
    features = features_for(texts, known.item_ids, spec)
    # The holdout's fit has the same number of components as the final fit.
    sized = algorithm.resolved(spec, matrix.scores.shape)

    evaluation, earlier = None, None
    if spec.holdout:
        holdout_report, evaluation, earlier = _evaluated(algorithm, known, sized, progress, stages, features)
        report = report | holdout_report
    else:
        report = report | Report(messages=("holdout metrics left out: nothing is held out (--holdout 0)",))

    with stages("fit"):
        fitted = complete(fit_matrix(algorithm, matrix, known, sized, progress, "fit", earlier), features, spec)
    report = report | Report(messages=fitted.messages)
    with stages("measure"):
        progress("measure", 0, None)
        report = report | fit_report(algorithm, matrix, fitted) | Report(messages=_ending(fitted, spec))

    report = replace(report, metrics=current_names(report.metrics))  # the headline first
    facts = _facts(algorithm, fitted, matrix)
    model = _described(algorithm, fitted, prepared, report, spec)
    digest = prepared.data_digest
    return Trained(algorithm, model, matrix, report, fitted, digest, facts, stages.seconds, spec, evaluation)


def _described(algorithm: Algorithm, fitted: Fitted, prepared: Preparation, report: Report, spec: TrainOptions) -> Any:
    """The fitted model, with what its metadata says of the training."""
    meta = {
        **fitted.model.meta,
        "algorithm": algorithm.display_name,
        "model": algorithm.name,
        "parameters": {**asdict(spec), **fitted.facts},
        "metrics": dict(report.metrics),
        "data_digest": prepared.data_digest,
    }
    if prepared.repeats is not None and fitted.model.seen.nnz == prepared.repeats.n_cells:
        meta[REPEATS] = prepared.repeats
    return replace(fitted.model, meta=meta)


def _facts(algorithm: Algorithm, fitted: Fitted, matrix: UserItems) -> dict[str, Any]:
    return {
        "algorithm_used": algorithm.name,
        **fitted.facts,
        "matrix_shape": f"{len(matrix.users)}x{len(matrix.items)}",
        "n_users": len(matrix.users),
        "n_items": len(matrix.items),
        "n_interactions": int(matrix.scores.nnz),
    }


def checked_algorithm(spec: TrainOptions, engine: Engine | None = None) -> Algorithm:
    """The algorithm of `spec`, fitted by `engine`.

    Raises UsageError for an unknown name, for options that it does not have, and for one that no engine can fit.
    """
    algorithm = registry.find(spec.algorithm)
    algorithm.check_options(spec)
    if engine is None:
        return algorithm
    require_distributed(spec)
    return algorithm.on(engine)


def require_distributed(spec: TrainOptions) -> None:
    """Raise UsageError where the fit of `spec` can't be carried out by an engine."""
    able = " or ".join(other.name for other in registry.algorithms() if other.distributed)
    if spec.is_auto or not registry.find(spec.algorithm).distributed or spec.solver != TrainOptions.solver:
        raise UsageError(
            f"--algorithm {spec.algorithm} with --solver {spec.solver} runs in one process: --engine local, or "
            f"--algorithm {able} with --solver {TrainOptions.solver}"
        )


def candidate(x: PreparedInteractions, spec: TrainOptions, progress: Progress = silent) -> tuple[Scorer, Fitted]:
    """Fit the algorithm of `spec` on a split's training side, to be evaluated on the other side.

    `progress` is called after each iteration of the fit; an exception that it raises ends the fit. Errors as `train`.
    """
    algorithm = checked_algorithm(spec)
    matrix = to_matrix(x, spec.transform, half_life_days=spec.half_life_days)
    fitted = fit_matrix(algorithm, matrix, x, spec, progress, "fit")
    return Scorer(fitted.model, algorithm.name), fitted


def _left_out(prepared: Preparation) -> Report:
    """Counts of the interactions that are not cells of the matrix: duplicates, and those of users left out."""
    metrics: dict[str, float] = {}
    messages = []
    if prepared.n_duplicates:
        metrics["data/n_duplicates"] = float(prepared.n_duplicates)
        messages.append(
            f"{prepared.n_duplicates:,} of {prepared.n_read:,} interactions repeat a user and item (--duplicates)"
        )
    if prepared.n_interactions_left_out:
        metrics["data/n_users_left_out"] = float(prepared.n_users_left_out)
        metrics["data/n_interactions_left_out"] = float(prepared.n_interactions_left_out)
        messages.append(
            f"{prepared.n_users_left_out:,} users with {prepared.n_interactions_left_out:,} interactions left out "
            "(--min-interactions, --max-interactions)"
        )
    return Report(metrics, tuple(messages))


def fit_matrix(
    algorithm: Algorithm,
    matrix: UserItems,
    x: PreparedInteractions,
    spec: TrainOptions,
    progress: Progress,
    stage: str,
    earlier: Fitted | None = None,
) -> Fitted:
    """Fit the model to the matrix of `x`; `earlier` is the fit that was evaluated. `stage` names it in the progress."""
    if algorithm.needs.times and x.at is None:
        raise InputError(
            f"{algorithm.display_name} goes by the times of interactions, and these have none "
            f"(--timestamp-column names their column; --algorithm {registry.POPULAR} needs none)"
        )
    progress(stage, 0, spec.max_iter if algorithm.stepped else None)

    def on_iteration(n: int, loss: float) -> None:
        progress(stage, n, spec.max_iter, f"loss {loss:.6g}")

    if earlier is None:
        return algorithm.fit(matrix, spec, interactions=x, on_iteration=on_iteration)
    return algorithm.refit(earlier, matrix, spec, interactions=x, on_iteration=on_iteration)


def _cut(which: str) -> str:
    return f"the {which} was interrupted"


def _kept(which: str, fitted: Fitted) -> str:
    return f"{_cut(which)} after {fitted.n_iter} iteration(s), and is used as it was by then"


def _ending(fitted: Fitted, spec: TrainOptions) -> tuple[str, ...]:
    """A message for a fit that was interrupted or did not converge."""
    if fitted.interrupted:
        return (_kept("fit", fitted),)
    if fitted.converged:
        return ()
    return (
        f"the fit stopped at max_iter = {spec.max_iter} before tol = {spec.tol:g} was reached: "
        "more iterations may lower the loss a little (--max-iter)",
    )


def _evaluated(
    algorithm: Algorithm,
    x: PreparedInteractions,
    spec: TrainOptions,
    progress: Progress,
    stages: Stages,
    features: ItemFeatures | None,
) -> tuple[Report, HoldoutEvaluation | None, Fitted | None]:
    """Fit on the training side, and evaluate that model and the baselines on the held-out side.

    Returns the report, the evaluation, and the fit that was evaluated, where `Algorithm.refit` takes something from it.
    """
    with stages("holdout"):
        split = split_interactions(x, spec)
        split = split if features is None else replace(split, catalogue=features.ids)
        matrix = to_matrix(split.train, spec.transform, half_life_days=spec.half_life_days)
        # Items that only the held-out side has are missing from the training side's matrix. The final fit must not fail
        # because this matrix is smaller.
        if sentence := algorithm.unfit(spec, matrix.scores.shape, "the training side of the holdout"):
            return Report(messages=(f"holdout metrics left out: {sentence}",)), None, None
        fitted = complete(fit_matrix(algorithm, matrix, split.train, spec, progress, "holdout fit"), features, spec)
    report = Report(messages=(_kept("holdout's fit", fitted),)) if fitted.interrupted else Report()
    with stages("evaluate"):
        evaluation = evaluate_holdout(
            Scorer(fitted.model, algorithm.name),
            matrix,
            split,
            algorithm=algorithm,
            transform=spec.transform,
            half_life_days=spec.half_life_days,
            progress=progress,
        )
    # The final fit needs its memory, unless it takes something from this one.
    return report | evaluation.report, evaluation, fitted if algorithm.learns_from_earlier else None


def split_interactions(x: PreparedInteractions, spec: TrainOptions) -> Split:
    """Split `x` by the options of `spec`. Raises SplitError where that is impossible."""
    if spec.split == "auto":
        return holdout(x, spec.holdout, spec.random_state)
    return make_split(
        spec.split, x, share=spec.holdout, k=spec.split_last, cutoff=spec.split_cutoff, seed=spec.random_state
    )
