"""`train(interactions, spec) → Trained`: the whole of training; knows no MLflow and no warehouse."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.artifact import FactorModel
from pipeline.errors import TooLittleDataError
from pipeline.interactions import Interactions
from pipeline.judge import Judgement, judge
from pipeline.matrix import UserItems, aggregate, content_digest, filter_users, in_order, to_matrix
from pipeline.metrics import all_cells_errors
from pipeline.models import fast_nmf, sklearn_nmf, weighted_nmf
from pipeline.models.sklearn_nmf import FittedFactors, as_estimator
from pipeline.objective import Objective
from pipeline.report import Progress, Report, silent
from pipeline.scorer import Scorer
from pipeline.spec import TrainSpec
from pipeline.splits import Split, holdout, make_split

__all__ = ["Stages", "Trained", "candidate", "parted", "train"]


_FITS = ("holdout's fit", "fit")


class Stages:
    """Wall-clock seconds by stage: ``with stages("fit"): …``."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Add the time of the block to the stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


@dataclass(frozen=True, eq=False)
class Trained:
    """Attributes
    ----------
    model : fitted on everything; `meta` holds spec, found facts and metrics
    report : metrics by their logged names, and what was left out and why
    data_digest : sha256 of all interactions that were read
    found : what was used or found: n_components_used, matrix_shape, …
    seconds : by stage
    judgement : the model beside its baselines on what was held out; None where nothing was
    """

    model: FactorModel
    matrix: UserItems
    report: Report
    fitted: FittedFactors
    data_digest: str
    found: Mapping[str, Any]
    seconds: Mapping[str, float]
    spec: TrainSpec
    judgement: Judgement | None = None

    @property
    def interrupted(self) -> tuple[str, ...]:
        """Which fits Ctrl-C ended, and are used as they were by then."""
        return tuple(name for name in _FITS if any(_cut(name) in message for message in self.report.messages))

    @property
    def losses(self) -> NDArray[np.float64]:
        """`FittedFactors.losses` of the fit that ships, (n_iter,)."""
        return self.fitted.losses

    def estimator(self) -> Any:
        """The fitted `sklearn.decomposition.NMF`; None where the objective is none of scikit-learn's."""
        if not self.spec.plain:
            return None
        return as_estimator(self.fitted, self.spec.estimator_params(self.model.n_components), len(self.matrix.items))


def train(x: Interactions, spec: TrainSpec, progress: Progress = silent) -> Trained:
    """Judge the model on a holdout, then fit the one that ships on everything.

    Raises
    ------
    TooLittleDataError
        With fewer than `spec.min_data` interactions, before or after the filters.
    UsageError
        For parameters that do not fit the matrix.
    InputError
        For a split or a half-life that needs times, where there are none.
    """
    stages = Stages()
    with stages("matrix"):
        progress("matrix", 0, None)
        if len(x) < spec.min_data:
            raise TooLittleDataError(
                f"Too little data: {len(x)} interaction(s), and at least {spec.min_data} are needed. "
                "Give more data, or lower --min-data."
            )
        x = in_order(x)
        digest = content_digest(x)
        unique = aggregate(x, spec.duplicates)
        kept = filter_users(unique, spec.min_interactions, spec.max_interactions)
        report = _left_out(x, unique, kept)
        x = kept
        matrix = to_matrix(x, spec.transform, spec.min_data, spec.half_life_days)
    n_components = spec.components_for(matrix.scores.shape)

    judgement = None
    if spec.holdout:
        found, judgement = _judged(x, spec, n_components, progress, stages)
        report = report | found
    else:
        report = report | Report(messages=("holdout metrics left out: nothing is held out (--holdout 0)",))

    if n_components > (least := min(matrix.scores.shape)):
        sentence = (
            f"n_components = {n_components} is more than the smaller side of the matrix, {least}: it learns it by heart"
        )
        report = report | Report(messages=(sentence,))
    with stages("fit"):
        fitted = _fit(matrix, spec, n_components, progress, "fit")
    with stages("measure"):
        progress("measure", 0, None)
        report = report | _fit_report(matrix, fitted)
    if fitted.interrupted:
        report = report | Report(messages=(_kept("fit", fitted),))
    elif not fitted.converged:
        sentence = (
            f"the fit stopped at max_iter = {spec.max_iter} before tol = {spec.tol:g} was reached: "
            "more iterations may lower the loss a little (--max-iter)"
        )
        report = report | Report(messages=(sentence,))

    facts = {
        "algorithm": "NMF",
        "n_components_used": n_components,
        "matrix_shape": f"{len(matrix.users)}x{len(matrix.items)}",
        "n_users": len(matrix.users),
        "n_items": len(matrix.items),
        "n_interactions": int(matrix.scores.nnz),
    }
    meta = {
        "algorithm": "NMF",
        "parameters": {**asdict(spec), "n_components_used": n_components},
        "metrics": dict(report.metrics),
        "data_digest": digest,
        "objective": _objective(matrix, spec).as_json(),
    }
    model = FactorModel(fitted.user_factors, fitted.item_factors, matrix.users, matrix.items, matrix.scores, meta)
    return Trained(model, matrix, report, fitted, digest, facts, stages.seconds, spec, judgement)


def candidate(x: Interactions, spec: TrainSpec, progress: Progress = silent) -> tuple[Scorer, FittedFactors]:
    """What `spec` makes of a split's training side (in order, aggregated), to be judged by the other side.

    `progress` is told of each iteration of the fit; what it raises ends it. Errors as `train`'s.
    """
    matrix = to_matrix(x, spec.transform, half_life_days=spec.half_life_days)
    fitted = _fit(matrix, spec, spec.components_for(matrix.scores.shape), progress, "fit")
    meta = _folding_meta(matrix, spec)
    model = FactorModel(fitted.user_factors, fitted.item_factors, matrix.users, matrix.items, matrix.scores, meta)
    return Scorer(model), fitted


def _folding_meta(matrix: UserItems, spec: TrainSpec) -> dict[str, Any]:
    """What folding held-out users in needs to know."""
    return {"parameters": {"transform": spec.transform}, "objective": _objective(matrix, spec).as_json()}


def _left_out(read: Interactions, unique: Interactions, kept: Interactions) -> Report:
    """What became of the interactions that are no cells of the matrix: nothing goes uncounted."""
    metrics: dict[str, float] = {}
    messages = []
    if len(unique) < len(read):
        metrics["n_duplicates"] = float(len(read) - len(unique))
        messages.append(
            f"{len(read) - len(unique):,} of {len(read):,} interactions repeat a user and item (--duplicates)"
        )
    if len(kept) < len(unique):
        users = len(unique.user_ids) - len(kept.user_ids)
        metrics["n_users_left_out"] = float(users)
        metrics["n_interactions_left_out"] = float(len(unique) - len(kept))
        messages.append(
            f"{users:,} users with {len(unique) - len(kept):,} interactions left out "
            "(--min-interactions, --max-interactions)"
        )
    return Report(metrics, tuple(messages))


def _fit(matrix: UserItems, spec: TrainSpec, n_components: int, progress: Progress, stage: str) -> FittedFactors:
    progress(stage, 0, spec.max_iter)
    params = spec.estimator_params(n_components)
    penalties = {name.lower(): params.pop(name) for name in ("alpha_W", "alpha_H", "l1_ratio")}
    how: dict[str, Any] = {
        "on_iteration": lambda n, loss: progress(stage, n, spec.max_iter, f"loss {loss:.6g}"),
        "threads": spec.threads,
        "keep_interrupted": spec.on_interrupt == "keep",
    }
    if not spec.plain:
        return weighted_nmf.fit_weighted(matrix.scores, _objective(matrix, spec), **params, **how)
    fit_nmf = {"sklearn": sklearn_nmf.fit_nmf, "fast": fast_nmf.fit_nmf}[spec.solver]
    return fit_nmf(matrix.scores, **params, **penalties, **how)


def _objective(matrix: UserItems, spec: TrainSpec) -> Objective:
    """What is fitted to this matrix."""
    objective = Objective(
        unobserved_weight=float(spec.unobserved_weight),
        confidence=float(spec.confidence),
        alpha_W=float(spec.alpha_W),
        alpha_H=float(spec.alpha_W if spec.alpha_H == "same" else spec.alpha_H),
        l1_ratio=float(spec.l1_ratio),
        reg_exponent=float(spec.reg_exponent),
        biases=spec.biases == "yes",
    )
    return weighted_nmf.with_prior(objective, matrix.scores)


def _cut(which: str) -> str:
    return f"the {which} was interrupted"


def _kept(which: str, fitted: FittedFactors) -> str:
    return f"{_cut(which)} after {fitted.n_iter} iteration(s), and is used as it was by then"


def _judged(
    x: Interactions, spec: TrainSpec, n_components: int, progress: Progress, stages: Stages
) -> tuple[Report, Judgement | None]:
    """Fit on the training side alone, and judge that beside the baselines on the held-out side."""
    with stages("holdout"):
        split = parted(x, spec)
        matrix = to_matrix(split.train, spec.transform, half_life_days=spec.half_life_days)
        # An item that only the held-out side has is no column of the training side: the start of
        # nndsvd needs k ≤ both sides, and what ships must not fail because what judges it is smaller.
        if spec.init != "random" and n_components > (least := min(matrix.scores.shape)):
            sentence = (
                f"holdout metrics left out: init = {spec.init} starts at most {least} factors on the "
                f"training side of the holdout, and {n_components} are asked for"
            )
            return Report(messages=(sentence,)), None
        fitted = _fit(matrix, spec, n_components, progress, "holdout fit")
    report = Report(messages=(_kept("holdout's fit", fitted),)) if fitted.interrupted else Report()
    with stages("judge"):
        meta = _folding_meta(matrix, spec)
        model = FactorModel(fitted.user_factors, fitted.item_factors, matrix.users, matrix.items, matrix.scores, meta)
        judgement = judge(
            Scorer(model),
            matrix,
            split,
            transform=spec.transform,
            half_life_days=spec.half_life_days,
            progress=progress,
        )
    return report | judgement.report, judgement


def parted(x: Interactions, spec: TrainSpec) -> Split:
    """`x`, in order and aggregated, parted as `spec` asks for. Raises SplitError where it can't be."""
    if spec.split == "auto":
        return holdout(x, spec.holdout, spec.random_state)
    return make_split(
        spec.split, x, share=spec.holdout, k=spec.split_last, cutoff=spec.split_cutoff, seed=spec.random_state
    )


def _fit_report(matrix: UserItems, fitted: FittedFactors) -> Report:
    found = all_cells_errors(matrix.scores, fitted.user_factors, fitted.item_factors)
    return Report(
        {
            "reconstruction_error": float(found.reconstruction_error),
            "rmse": float(found.rmse),
            "mae": float(found.mae),
            "observed_rmse": found.observed.rmse,
            "observed_mae": found.observed.mae,
            "sparsity": matrix.sparsity,
            "n_iter": float(fitted.n_iter),
        }
    )
