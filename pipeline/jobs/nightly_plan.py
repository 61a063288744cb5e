"""What a night does with the interactions that were read: a training, folding them into the champion, or nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from pipeline.data.matrix import UserItems, to_matrix
from pipeline.data.prepare import prepare_interactions
from pipeline.data.repeats import Repeats
from pipeline.errors import ArtifactError, InputError
from pipeline.jobs.inputs import LoadedInput
from pipeline.jobs.load_model import loaded
from pipeline.jobs.logged_run import TrainingJob
from pipeline.jobs.run_texts import as_asked
from pipeline.models.saved_model import model_name
from pipeline.options import NightlyOptions, TrainOptions
from pipeline.ranking.scorer import Scorer
from pipeline.tracking import champion as champions
from pipeline.tracking.lookup import RunRecord, RunRef, run_record
from pipeline.tracking.registry import ModelVersion
from pipeline.tracking.version_deletion import FOLDED_FROM
from pipeline.training.fold_in import HistoryChanges, changes_since, why_not_foldable

__all__ = ["Base", "FoldInPlan", "NightPlan", "planned"]

# Options that change neither what a model learns from nor how well: who changes them wants no training tonight.
_IDLE = frozenset({"threads", "on_interrupt", "budget_minutes", "min_data"})
# Where a file lies says nothing of what is in it; `source_name` and the digest of a query are compared besides.
_PLACES = frozenset({"source", "input", "format", "query", "source_name", "items", "on_bad_rows"})


@dataclass(frozen=True, eq=False)
class Base:
    """The training that the champion comes from: the champion itself, or the version that it was folded into.

    Attributes
    ----------
    champion : the champion's label, such as rankline/8
    version : of the training
    scorer : with the saved model
    tags : of the champion's version
    run : what the run of the training says
    """

    champion: str
    version: ModelVersion
    scorer: Scorer
    tags: Mapping[str, str]
    run: RunRecord

    @property
    def trained(self) -> datetime:
        """When it was trained, by the clock of the nightly job that did it, if one did."""
        return self.run.trained


@dataclass(frozen=True, eq=False)
class FoldInPlan:
    """Attributes
    ----------
    now : the interactions, scores before the transform
    changes : since the training
    data_digest : of all interactions that were read
    repeats : of the cells of `now` that are means
    """

    base: Base
    now: UserItems
    changes: HistoryChanges
    data_digest: str
    repeats: Repeats | None


@dataclass(frozen=True, eq=False)
class NightPlan:
    """`why` says why, in a sentence; `fold_in` is there where data is folded in."""

    do: Literal["train", "fold in", "nothing"]
    why: str
    fold_in: FoldInPlan | None = None


@contextmanager
def planned(
    job: TrainingJob, chosen: LoadedInput, spec: TrainOptions, options: NightlyOptions, now: datetime
) -> Iterator[NightPlan]:
    """The plan of the night; its base's files are there within the block.

    Raises TooLittleDataError as a training would.
    """
    with ExitStack() as stack:
        yield _plan(job, chosen, spec, options, now, stack)


def _plan(
    job: TrainingJob,
    chosen: LoadedInput,
    spec: TrainOptions,
    options: NightlyOptions,
    now: datetime,
    stack: ExitStack,
) -> NightPlan:
    model = job.settings.names.model
    champion = champions.champion(model)
    if champion is None:
        return NightPlan("train", "no version is champion yet")
    try:
        base = _base(champion, job, stack)
    except (ArtifactError, InputError) as error:
        return NightPlan("train", f"the files of {champion.label}, the champion, can't be used ({error})")
    if other := _asked_otherwise(job, chosen, spec, base):
        return NightPlan("train", other)
    prepared = prepare_interactions(
        chosen.read.interactions, spec.duplicates, spec.min_interactions, spec.max_interactions, spec.min_data
    )
    if base.tags.get("data_digest") == prepared.data_digest:
        return NightPlan("nothing", f"nothing is new since {champion.label}, the champion")
    if not options.refit_after:
        return NightPlan("train", "something is new (--refit-after 0)")
    if why := why_not_foldable(base.scorer.model):
        return NightPlan(
            "train", f"something is new, and nothing is folded into {model_name(base.scorer.model)}: {why}"
        )
    known = to_matrix(prepared.interactions)
    try:
        changes = changes_since(base.scorer.model, known)
    except InputError as error:
        return NightPlan("train", f"the ids are others than the champion's ({error})")
    sentence = f"{changes.share:.2%} of the interactions are new or changed since {base.version.label} was trained"
    if changes.share > options.refit_after:
        return NightPlan("train", f"{sentence} (--refit-after {options.refit_after:g})")
    age = now - base.trained
    if options.refit_days is not None and age > timedelta(days=options.refit_days):
        return NightPlan("train", f"{base.version.label} is {age.days} days old (--refit-days {options.refit_days:g})")
    return NightPlan("fold in", sentence, FoldInPlan(base, known, changes, prepared.data_digest, prepared.repeats))


def _base(champion: ModelVersion, job: TrainingJob, stack: ExitStack) -> Base:
    """Raises InputError, ArtifactError where the version, its run or its files are not there, or are damaged."""
    model = job.settings.names.model
    tags = champions.tags_of(champion.version, model)
    number = tags.get(FOLDED_FROM) or champion.version
    scorer, version = stack.enter_context(loaded(f"{model}/{number}", job.reporter, model, mapped=True))
    record = run_record(RunRef(version.run_id, version.label, "", version.version))
    return Base(champion.label, version, scorer, tags, record)


def _asked_otherwise(job: TrainingJob, chosen: LoadedInput, spec: TrainOptions, base: Base) -> str:
    """How what is asked for differs from the champion's training; "" where it does not."""
    asked = {name: str(value) for name, value in as_asked(spec, job.read_spec).items()}
    fields: set[str] = set(asdict(spec)) | set(asdict(job.read_spec))
    for name in sorted(fields - _IDLE - _PLACES):
        # A run that is older than an option has no such parameter.
        before = base.run.params.get(name)
        if before is not None and before != asked[name]:
            return f"--{name.replace('_', '-')} is {asked[name]}, and was {before} for {base.version.label}"
    meta: Mapping[str, Any] = base.scorer.model.meta
    if chosen.name and meta.get("source_name") not in (None, chosen.name):
        return f"the source is {chosen.name}, and was {meta['source_name']} for {base.version.label}"
    digest = chosen.query.digest if chosen.query else None
    if meta.get("query_digest") not in (None, digest):
        return f"the query is another than that of {base.version.label}"
    return ""
