"""`resume`: what was trained while the store was away goes into its run."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pipeline import tracking
from pipeline.errors import InputError, LockedError
from pipeline.jobs.reporter import Reporter
from pipeline.kept import Kept, find_kept, kept_in, open_kept
from pipeline.recording import record, register
from pipeline.settings import Settings, address_of_store

__all__ = ["Resumed", "resume_job"]


@dataclass(frozen=True)
class Resumed:
    """A run that is logged now, and the version it made."""

    run_id: str
    name: str
    version: str


def resume_job(which: str | None, settings: Settings, reporter: Reporter) -> list[Resumed]:
    """Log what is kept into the runs it is of, which end FINISHED; done twice or cut off and done again, once.

    Parameters
    ----------
    which : a folder, or the beginning of a run's id; None: all that is kept

    Raises
    ------
    InputError
        Nothing is kept under that name, or the store has no such run.
    ArtifactError
        What is kept is not as it was written.
    ServerError
        The store fails again; what is kept stays.
    """
    root = settings.unlogged_path
    folders = kept_in(root) if which is None else [find_kept(which, root)]
    if not folders:
        reporter.say(f"nothing is kept in {root}: all that was trained is logged")
        return []
    tracking.open_store(settings.tracking_uri)
    done, wrong = [], None
    for folder in folders:
        try:
            done.append(_resume(folder, settings, reporter))
        except (InputError, LockedError) as error:
            if which is not None:
                raise
            # One that is damaged must not hold up the others.
            reporter.say(str(error))
            wrong = wrong or error
    if wrong is not None:
        raise wrong
    return done


def _resume(folder: Path, settings: Settings, reporter: Reporter) -> Resumed:
    kept = open_kept(folder)
    try:
        reporter.progress("log", 0, None)
        try:
            return _logged(kept, settings)
        except InputError as error:
            here, there = address_of_store(settings.tracking_uri), kept.facts["store"]
            hint = f": it began in {there}, and MLFLOW_TRACKING_URI names {here}" if here != there else ""
            raise type(error)(f"{error}{hint}; what was trained stays in {folder}") from None
    finally:
        kept.close()


def _logged(kept: Kept, settings: Settings) -> Resumed:
    with tracking.resumed_run(settings.tracking_uri, kept.run_id, settings.patience) as run:
        model_uri = record(run, kept)
        run.metrics(kept.facts["late_metrics"], int(kept.facts["at_ms"]))
        version = register(run, kept, model_uri)
        run.untag("failure")
        run.tags({"resumed_at": datetime.now(UTC).isoformat(timespec="seconds")})
        tracking.finish_parent(run, version)
        run.finish()
    kept.remove()
    return Resumed(run.id, str(kept.facts["name"]), version)
