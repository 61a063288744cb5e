"""`tune(interactions, base, spec) → Tuned`: which options rank best; knows no MLflow and no warehouse.

    all ──split──→ training side ──the same split again──→ fit side · validation part
         └───────→ test part                               every trial is fitted on one and judged by the other

The search is handed the inner split alone. The test part is looked at once a search, at the end, with the winner,
the defaults and the baselines beside each other, all fitted on the whole training side. Split by whole users, the
test users take no part in the search, and the validation users are held out of those that are left.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

from pipeline import __version__
from pipeline.errors import InputError, LeakageError, TooLittleDataError, UsageError
from pipeline.evaluate import FoldIn, evaluate, evaluate_ranking
from pipeline.evaluation import Evaluation
from pipeline.interactions import Interactions
from pipeline.judge import baselines, folding
from pipeline.matrix import aggregate, content_digest, filter_users, in_order, to_matrix
from pipeline.ranker import Ranker
from pipeline.report import Progress, silent
from pipeline.search_space import Dimension, search_space, sweep
from pipeline.significance import Comparison, Lift, compare, lift_over_popular
from pipeline.spec import TrainSpec, TuneSpec
from pipeline.splits import Split
from pipeline.study import Asked, Pruned, Study, Trial, open_study
from pipeline.train import candidate, parted

__all__ = ["Trial", "Tuned", "tune"]

# A trial is judged after these shares of its iterations too, and ends there if it is behind. Each mark is a
# fit of its own, from the start: the solver stays one solver, and a survivor pays 10 % more. Not sooner: many factors,
# well regularised, are slow to begin with and best in the end.
_MARKS = (0.1,)

Ended = Literal["trials", "timeout", "interrupted"]


class _TimeIsUp(Exception):  # noqa: N818 - no error: the budget is spent in the middle of a trial
    pass


@dataclass(frozen=True, eq=False)
class Tuned:
    """Attributes
    ----------
    study : the search's name: of the same data, parts, options, space and metric
    trials : of this and of earlier sittings, in order
    n_before : how many of them were there already
    best : of the highest validation value; the winner
    spec : what to train: the base with the best options
    baselines : validation values of ``popular``, ``recent`` and ``item_knn``, the last two where `judge` has them
    ended : why the search stopped
    test : ``tuned``, ``default`` (where they could be fitted) and the same baselines on the test part
    lift : of the tuned over most popular on the test part, by the metric
    gain : of the tuned (b) over the defaults (a) there; None where the defaults could not be fitted
    data_digest : as `Trained.data_digest`
    split_digest : of the outer split
    """

    study: str
    metric: str
    trials: tuple[Trial, ...]
    n_before: int
    best: Trial
    spec: TrainSpec
    baselines: Mapping[str, float]
    ended: Ended
    test: Mapping[str, Evaluation]
    lift: Lift
    gain: Comparison | None
    data_digest: str
    split_digest: str


def tune(
    x: Interactions,
    base: TrainSpec,
    spec: TuneSpec,
    *,
    path: Path | None = None,
    on_start: Callable[[str, tuple[Trial, ...]], None] = lambda study, trials: None,
    on_trial: Callable[[Trial], None] = lambda trial: None,
    progress: Progress = silent,
) -> Tuned:
    """Search the options that rank best on a validation part, and measure the winner on a test part.

    Parameters
    ----------
    base : the defaults, tried first; what is not searched stays as it is there. `base.holdout` is the share
        of both parts; with `base.on_interrupt` "keep", Ctrl-C ends the search, and its best goes on
    path : where the trials are kept, see `open_study`; None: nowhere
    on_start : told the study's name and the trials that are there already
    on_trial : told each trial that ends

    Raises
    ------
    TooLittleDataError
        With fewer than `base.min_data` interactions, or none to judge by.
    UsageError
        For an objective that does not rank, no holdout, or a search of nothing.
    InputError
        Where no trial succeeded.
    """
    if base.biases == "yes":
        raise UsageError("Tuning searches what ranks best, and --biases yes estimates ratings: take --biases no")
    if not base.holdout:
        raise UsageError("Tuning needs a part to judge by: --holdout must be above 0")
    progress("matrix", 0, None)
    if len(x) < base.min_data:
        raise TooLittleDataError(
            f"Too little data: {len(x)} interaction(s), and at least {base.min_data} are needed. "
            "Give more data, or lower --min-data."
        )
    x = in_order(x)
    digest = content_digest(x)
    x = filter_users(aggregate(x, base.duplicates), base.min_interactions, base.max_interactions)
    to_matrix(x, base.transform, base.min_data)  # refuses before the search what would refuse its winner
    outer = parted(x, base)
    # The test part is all there is after a date that was given: the validation part is a share before it.
    inner = parted(outer.train, replace(base, split_cutoff=None))
    _check_unseen(inner, outer)

    shape = (len(inner.train.user_ids), len(inner.train.item_ids))
    space = search_space(base, spec.search, shape, times=x.at is not None)
    progress("baselines", 0, None)
    beside = {
        name: _value(ranker, inner, spec.metric, fold_in)
        for name, ranker, fold_in in baselines(to_matrix(inner.train), inner)
    }
    name = _name(base, spec.metric, space, digest, (outer, inner))
    first = sweep(space, base, shape)
    with open_study(name, space, first, base.random_state, path, resume=spec.resume == "yes") as study:
        before = study.trials()
        on_start(name, before)
        ended = _search(study, inner, base, spec, on_trial, progress)
        trials, best = study.trials(), study.best()
    if best is None:
        reason = next((one.reason for one in trials if one.reason), "none came to its end")
        raise InputError(f"None of {len(trials)} trial(s) succeeded; the first: {reason}")

    winner = replace(base, **best.options)
    test = _test(outer, base, winner, progress)
    mine = test["tuned"].per_user[spec.metric]
    gain = compare(test["default"].per_user[spec.metric], mine) if "default" in test else None
    return Tuned(
        study=name,
        metric=spec.metric,
        trials=trials,
        n_before=len(before),
        best=best,
        spec=winner,
        baselines=beside,
        ended=ended,
        test=test,
        lift=lift_over_popular(mine, test["popular"].per_user[spec.metric]),
        gain=gain,
        data_digest=digest,
        split_digest=outer.digest,
    )


def _check_unseen(inner: Split, outer: Split) -> None:
    """No side that the search is given holds a pair of the test part, or knows its users. Raises LeakageError."""
    for side in (inner.train, inner.test, inner.fold_in):
        if side is not None:
            Split(side, outer.test, outer.cutoff, outer.name, outer.params, outer.fold_in)


def _name(base: TrainSpec, metric: str, space: Sequence[Dimension], data: str, splits: Sequence[Split]) -> str:
    """Of everything that a trial's value depends on: a search never goes on with another's trials."""
    # Of what is searched, too: the base's values are the first trial.
    fixed = {key: value for key, value in asdict(base).items() if key not in ("threads", "on_interrupt", "min_data")}
    facts = {
        "version": __version__,
        "data": data,
        "splits": [split.digest for split in splits],
        "base": fixed,
        "space": [repr(one) for one in space],
        "metric": metric,
        "marks": _MARKS,
    }
    return "rankline-" + hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def _search(
    study: Study,
    inner: Split,
    base: TrainSpec,
    spec: TuneSpec,
    on_trial: Callable[[Trial], None],
    progress: Progress,
) -> Ended:
    """Trials until there are enough, the time is up, or a person ends it."""
    deadline = None if spec.timeout is None else time.monotonic() + spec.timeout
    asked: Asked | None = None
    try:
        while (done := len(study.trials())) < spec.trials:
            best = study.best()
            note = "" if best is None else f"best {spec.metric} {best.value:.4f} (trial {best.number})"
            progress("tune", done, spec.trials, note)
            # One complete trial there must be, whatever the budget: something has to be trained.
            limit = deadline if best is not None else None
            if limit is not None and time.monotonic() >= limit:
                return "timeout"
            asked = study.ask()
            try:
                study.complete(asked, _objective(asked, inner, base, spec.metric, limit))
            except Pruned:
                study.prune(asked)
            except LeakageError:
                raise
            except _TimeIsUp:
                study.drop(asked)
                return "timeout"
            except Exception as error:  # noqa: BLE001 - whatever one point does to the fit, others may do well
                study.fail(asked, f"{type(error).__name__}: {error}")
            asked = None
            on_trial(study.trials()[-1])
        progress("tune", spec.trials, spec.trials)
    except KeyboardInterrupt:
        if asked is not None:
            study.drop(asked)
        if base.on_interrupt == "keep" and study.best() is not None:
            return "interrupted"
        raise
    return "trials"


def _objective(asked: Asked, inner: Split, base: TrainSpec, metric: str, limit: float | None) -> float:
    """Validation value of a trial's options. Raises Pruned or _TimeIsUp on the way."""

    def watch(stage: str, done: int, total: int | None, note: str = "") -> None:
        if limit is not None and time.monotonic() >= limit:
            raise _TimeIsUp

    # Ctrl-C is the search's to answer: a fit that went on with half its factors would be judged as a whole.
    spec = replace(base, **{**asked.options, "on_interrupt": "stop"})
    for mark in sorted({max(1, round(share * spec.max_iter)) for share in _MARKS} - {spec.max_iter}):
        fitted = _fitted(inner, replace(spec, max_iter=mark), watch)
        value = _value(fitted.ranker, inner, metric, fitted.fold_in)
        if fitted.converged:
            return value
        asked.report(mark, value)
    fitted = _fitted(inner, spec, watch)
    return _value(fitted.ranker, inner, metric, fitted.fold_in)


class _Fitted(NamedTuple):
    """A candidate of a split's training side, and how it folds held-out users in."""

    ranker: Ranker
    fold_in: FoldIn
    converged: bool


def _fitted(split: Split, spec: TrainSpec, progress: Progress = silent) -> _Fitted:
    scorer, fitted = candidate(split.train, spec, progress)
    return _Fitted(scorer, folding(scorer, split, spec.transform, spec.half_life_days), fitted.converged)


def _value(ranker: Ranker, split: Split, metric: str, fold_in: FoldIn) -> float:
    """The metric on the split's held-out side, over the users it can be measured for."""
    # Of known users the two that are asked for most are had several times as fast as all metrics.
    if split.fold_in is None and metric in ("ndcg_at_10", "recall_at_10"):
        found = evaluate_ranking(ranker, split, 10, prefix="").metrics
    else:
        found = evaluate(ranker, split, (10,), fold_in=fold_in).metrics
    if metric not in found:
        raise TooLittleDataError("Too little data to tune on: no user has an interaction in both parts to judge by")
    return found[metric]


def _test(outer: Split, base: TrainSpec, winner: TrainSpec, progress: Progress) -> dict[str, Evaluation]:
    """The winner, the defaults and the baselines, fitted on the whole training side and judged by the test part."""
    progress("test", 0, None)
    # A fit cut short by Ctrl-C would be shown as what was found.
    winner, base = replace(winner, on_interrupt="stop"), replace(base, on_interrupt="stop")
    tuned = _fitted(outer, winner)
    found = {"tuned": evaluate(tuned.ranker, outer, fold_in=tuned.fold_in)}
    if not len(found["tuned"]):
        raise TooLittleDataError("Too little data to tune on: no user has an interaction in both parts to judge by")
    try:
        default = _fitted(outer, base)
    except Exception:  # noqa: BLE001, S110 - they failed as a trial, too, and the trials say why
        pass
    else:
        found["default"] = evaluate(default.ranker, outer, fold_in=default.fold_in)
    for name, ranker, fold_in in baselines(to_matrix(outer.train), outer):
        found[name] = evaluate(ranker, outer, fold_in=fold_in)
    return found
