"""The champion, its history, and the functions that change it.

The alias `champion` names the champion. The history is a log of tags of the registered model, one for each change.
A tag is never rewritten, so two processes that write at once lose nothing. `champion_history` reconciles alias and
log, since a person may move the alias in the MLflow UI, and a process may be killed between its two writes.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import mlflow
from mlflow.exceptions import MlflowException

from pipeline.errors import InputError, LockedError
from pipeline.tracking.champion_lock import ChampionLock, champion_lock
from pipeline.tracking.champion_log import ChampionChange, champion_in, changes_in, key_of
from pipeline.tracking.registry import CHAMPION, MODEL_NAME, ModelVersion, resolve
from pipeline.tracking.run import as_server_error, is_file, locked_store

__all__ = [
    "ChampionChange",
    "alone",
    "champion",
    "champion_history",
    "changes",
    "history",
    "promote",
    "roll_back",
    "tag",
    "tags_of",
    "version_of_run",
]

ROLLED_BACK = "rolled back"
_TRIES = 5


def champion_history(changes: Sequence[ChampionChange], current: str) -> list[str]:
    """The stack of champions, the first champion first and the current one last; [] without a champion.

    A promotion pushes a version; a rollback pops the versions above its target. A champion that the log lacks (the
    alias was moved by hand, or a write is missing) is pushed, too: the alias is right where the log differs.
    """
    stack: list[str] = []
    for change in sorted(changes):
        if change.before and stack[-1:] != [change.before]:
            stack.append(change.before)
        if change.how == ROLLED_BACK and change.version in stack:
            while stack[-1] != change.version:
                stack.pop()
        elif stack[-1:] != [change.version]:
            stack.append(change.version)
    if current and stack[-1:] != [current]:
        stack.append(current)
    return stack


def champion(model: str = MODEL_NAME) -> ModelVersion | None:
    """The version of the registered model with the alias, None where no version has it."""
    try:
        return resolve(f"{model}@{CHAMPION}")
    except InputError:
        return None


def history(model: str = MODEL_NAME) -> list[str]:
    """The present `champion_history` of the registry."""
    return champion_history(changes(model), _current(model))


def promote(version: str, *, instead_of: str, how: str, reason: str = "", model: str = MODEL_NAME) -> datetime | None:
    """Make the version champion if `instead_of` ("" for none) still is the champion.

    Returns the time, or None if another version is the champion. Of two jobs at once one waits for the other, and then
    gets None. A person who moves the alias by hand takes no lock, so the alias is read again afterwards.
    """
    _undo_late_move(model)
    with alone(model, version) as claim:
        if _current(model) != instead_of:
            return None
        at = _now(model)
        claim.check()
        # Set the alias first: after a kill in between, `champion_history` adds the champion that the log lacks.
        mlflow.MlflowClient().set_registered_model_alias(model, CHAMPION, version)
        moved = _current(model) == version
        if moved:
            _log(model, ChampionChange(at, version, instead_of, how, reason))
    if not moved:
        _undo_late_move(model)
    return at if moved else None


def roll_back(
    reason: str = "", check: Callable[[str], None] = lambda version: None, model: str = MODEL_NAME
) -> tuple[ChampionChange, list[str]]:
    """Give the alias back to the previous champion; returns the change, and the deleted versions that were skipped.

    `check` is called with that version before anything is changed; its errors are raised. Raises InputError if there is
    no champion, none before it, or if others move the alias again and again; LockedError if this process stood still
    past its lock.
    """
    _undo_late_move(model)
    for _ in range(_TRIES):
        with as_server_error(mlflow.get_tracking_uri()):
            back = _back(model)
        check(back.version)  # it may take long, so it runs before the lock is taken
        with alone(model, back.version) as claim:
            if _back(model) != back:
                continue
            change = ChampionChange(_now(model), back.version, back.current, ROLLED_BACK, reason)
            claim.check()
            # Write the log first: after a kill in between, a rollback goes back to the same version.
            _log(model, change)
            mlflow.MlflowClient().set_registered_model_alias(model, CHAMPION, back.version)
            moved = _current(model) == back.version
        if moved:
            return change, back.gone
        _undo_late_move(model)
        raise LockedError(f"Others changed the champion while this command stood still; {model}@{CHAMPION} is theirs")
    raise InputError(f"Nobody is rolled back: the champion changed {_TRIES} times meanwhile; try again")


class _Back(NamedTuple):
    """The current champion, the version to go back to, and the deleted versions between them."""

    current: str
    version: str
    gone: list[str]


def _back(model: str) -> _Back:
    current = _current(model)
    if not current:
        raise InputError("No version is champion, so there is none to go back from; rankline promote makes one")
    gone: list[str] = []
    for version in reversed(champion_history(changes(model), current)[:-1]):
        if version == current:
            continue
        if _exists(model, version):
            return _Back(current, version, gone)
        gone.append(version)
    deleted = f" (version {', '.join(gone)} is deleted)" if gone else ""
    raise InputError(
        f"{model}/{current} is the first champion there is a record of: none to go back to{deleted}. "
        "rankline promote MODEL --force --reason … makes another one champion"
    )


def tag(version: str, tags: Mapping[str, str], model: str = MODEL_NAME) -> None:
    """Write tags on a version, each cut at 5000 characters."""
    client = mlflow.MlflowClient()
    with as_server_error(mlflow.get_tracking_uri()):
        for key, value in tags.items():
            client.set_model_version_tag(model, version, key, value[:5000])


def tags_of(version: str, model: str = MODEL_NAME) -> dict[str, str]:
    """The version's tags."""
    with as_server_error(mlflow.get_tracking_uri()):
        return dict(mlflow.MlflowClient().get_model_version(model, version).tags)


def version_of_run(run_id: str, model: str = MODEL_NAME) -> str:
    """The newest version that the run has registered. Raises InputError where it has none."""
    with as_server_error(mlflow.get_tracking_uri()):
        registered = mlflow.search_model_versions(filter_string=f"run_id = '{run_id}'")
    versions = [int(version.version) for version in registered if version.name == model]
    if not versions:
        raise InputError(f"The run {run_id[:8]} has registered no version of {model!r}: its training did not finish")
    return str(max(versions))


@contextmanager
def alone(model: str, version: str) -> Iterator[ChampionLock]:
    """Hold the lock for moving the alias to the version; with "" for what is not to be done while others move it."""
    uri = mlflow.get_tracking_uri()
    with as_server_error(uri), locked_store(uri), champion_lock(not is_file(uri), model, version) as claim:
        yield claim


def _undo_late_move(model: str) -> None:
    """Move the alias back to the champion where a process moved it after its lock had been taken over."""
    for _ in range(_TRIES):
        current = _misplaced(model)
        if not current:
            return
        with alone(model, current) as claim:
            if _misplaced(model) == current:
                claim.check()
                mlflow.MlflowClient().set_registered_model_alias(model, CHAMPION, current)


def _misplaced(model: str) -> str:
    """The champion, where the alias names another version; else ""."""
    with as_server_error(mlflow.get_tracking_uri()):
        try:
            page = mlflow.MlflowClient().get_registered_model(model)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return ""
            raise
    alias = str(page.aliases.get(CHAMPION, ""))
    current = champion_in(page.tags, alias)
    return current if current != alias else ""


def _current(model: str) -> str:
    now = champion(model)
    return now.version if now is not None else ""


def changes(model: str = MODEL_NAME) -> list[ChampionChange]:
    """Every change of the champion, in order; [] where there is no such model."""
    with as_server_error(mlflow.get_tracking_uri()):
        try:
            tags = mlflow.MlflowClient().get_registered_model(model).tags
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return []
            raise
    return changes_in(tags)


def _log(model: str, change: ChampionChange) -> None:
    key = key_of(change.at, secrets.token_hex(2))
    value = {"version": change.version, "before": change.before, "how": change.how, "reason": change.reason[:4000]}
    text = json.dumps(value, ensure_ascii=False)
    mlflow.MlflowClient().set_registered_model_tag(model, key, text)


def _now(model: str) -> datetime:
    """The time, but later than every change so far: a clock that was set back must not reorder the log."""
    last = max((change.at for change in changes(model)), default=datetime.min.replace(tzinfo=UTC))
    return max(datetime.now(UTC), last + timedelta(microseconds=1))


def _exists(model: str, version: str) -> bool:
    try:
        mlflow.MlflowClient().get_model_version(model, version)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise
    return True
