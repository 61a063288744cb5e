"""Who is champion, who was before, and the one place that moves the alias.

The alias `champion` says who reigns. Who reigned before is a log: a tag of the registered model for each
change, never rewritten, so that two who write at once lose nothing. The two are reconciled by `reigns`,
since a person may move the alias in MLflow's own page, and a process may die between the two writes.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import mlflow
from mlflow.exceptions import MlflowException

from pipeline.claims import Claim, claimed
from pipeline.errors import InputError
from pipeline.registry import CHAMPION, MODEL_NAME, ModelVersion, resolve
from pipeline.tracking import as_server_error, is_file, locked_store

__all__ = ["Change", "champion", "crown", "history", "reigns", "roll_back", "tag", "tags_of", "version_of_run"]

_PREFIX = "champion."
_STAMP = "%Y%m%dT%H%M%S.%fZ"
ROLLED_BACK = "rolled back"
_TRIES = 5


@dataclass(frozen=True, order=True)
class Change:
    """One move of the alias: `at` (UTC, to the microsecond), to `version`, from `before` ("" for none), how and why."""

    at: datetime
    version: str
    before: str
    how: str
    reason: str = ""


def reigns(changes: Sequence[Change], current: str) -> list[str]:
    """The versions one could go back to, the first champion first and the current one last; [] without any.

    A promotion goes on top; going back takes off what is above. What the log does not know of (an alias
    moved by hand, a write that never came) goes on top as it is met: the alias is right, whatever the log says.
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


def champion() -> ModelVersion | None:
    """The version with the alias, None where no version has it."""
    try:
        return resolve(f"{MODEL_NAME}@{CHAMPION}")
    except InputError:
        return None


def history() -> list[str]:
    """`reigns` of the registry as it stands."""
    now = champion()
    return reigns(_changes(), now.version if now is not None else "")


def crown(version: str, *, instead_of: str, how: str, reason: str = "") -> datetime | None:
    """Make the version champion, if `instead_of` ("" for none) still is; returns when, or None where it is not.

    Of two who try at once one waits for the other, and finds that it is not. Who moves the alias by hand waits
    for nobody: it is looked at once more afterwards, and None if it is somebody else's by then.
    """
    with _alone() as claim:
        if _current() != instead_of:
            return None
        at = _now()
        claim.check()
        # The alias first: dying in between leaves a champion that `reigns` puts on top by itself.
        mlflow.MlflowClient().set_registered_model_alias(MODEL_NAME, CHAMPION, version)
        if _current() != version:
            return None
        _log(Change(at, version, instead_of, how, reason))
    return at


def roll_back(reason: str = "", check: Callable[[str], None] = lambda version: None) -> tuple[Change, list[str]]:
    """Give the alias back to the version that had it before; returns the change, and who was passed over as deleted.

    `check` is called with that version before anything is changed. Raises what it raises, and InputError
    where there is no champion, or none before it, or where others move it again and again.
    """
    for _ in range(_TRIES):
        with as_server_error(mlflow.get_tracking_uri()):
            back = _back()
        check(back.version)  # takes its time: nobody has to wait for it
        with _alone() as claim:
            if _back() != back:
                continue
            change = Change(_now(), back.version, back.current, ROLLED_BACK, reason)
            claim.check()
            # The log first: dying in between leaves the champion on top of the one to go back to.
            _log(change)
            mlflow.MlflowClient().set_registered_model_alias(MODEL_NAME, CHAMPION, back.version)
            return change, back.gone
    raise InputError(f"Nobody is rolled back: the champion changed {_TRIES} times meanwhile; try again")


class _Back(NamedTuple):
    """From whom to whom, and who in between is deleted."""

    current: str
    version: str
    gone: list[str]


def _back() -> _Back:
    current = _current()
    if not current:
        raise InputError("No version is champion, so there is none to go back from; rankline promote makes one")
    gone: list[str] = []
    for version in reversed(reigns(_changes(), current)[:-1]):
        if version == current:
            continue
        if _exists(version):
            return _Back(current, version, gone)
        gone.append(version)
    deleted = f" (version {', '.join(gone)} is deleted)" if gone else ""
    raise InputError(
        f"{MODEL_NAME}/{current} is the first champion there is a record of: none to go back to{deleted}. "
        "rankline promote MODEL --force --reason … makes another one champion"
    )


def tag(version: str, tags: Mapping[str, str]) -> None:
    """Write tags on a version, each cut at 5000 characters."""
    client = mlflow.MlflowClient()
    with as_server_error(mlflow.get_tracking_uri()):
        for key, value in tags.items():
            client.set_model_version_tag(MODEL_NAME, version, key, value[:5000])


def tags_of(version: str) -> dict[str, str]:
    """The version's tags."""
    with as_server_error(mlflow.get_tracking_uri()):
        return dict(mlflow.MlflowClient().get_model_version(MODEL_NAME, version).tags)


def version_of_run(run_id: str) -> str:
    """The newest version that the run has registered. Raises InputError where it has none."""
    with as_server_error(mlflow.get_tracking_uri()):
        found = mlflow.MlflowClient().search_model_versions(f"run_id = '{run_id}'")
    versions = [int(one.version) for one in found if one.name == MODEL_NAME]
    if not versions:
        raise InputError(f"The run {run_id[:8]} has registered no version of {MODEL_NAME!r}: it did not end well")
    return str(max(versions))


@contextmanager
def _alone() -> Iterator[Claim]:
    uri = mlflow.get_tracking_uri()
    with as_server_error(uri), locked_store(uri), claimed(not is_file(uri)) as claim:
        yield claim


def _current() -> str:
    now = champion()
    return now.version if now is not None else ""


def _changes() -> list[Change]:
    with as_server_error(mlflow.get_tracking_uri()):
        try:
            tags = mlflow.MlflowClient().get_registered_model(MODEL_NAME).tags
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return []
            raise
    found = []
    for key, value in tags.items():
        if not key.startswith(_PREFIX):
            continue
        try:
            fields = json.loads(value)
            at = datetime.strptime(key.removeprefix(_PREFIX).rsplit(".", 1)[0], _STAMP).replace(tzinfo=UTC)
            found.append(Change(at, str(fields["version"]), str(fields["before"]), str(fields["how"])))
        except (ValueError, KeyError, TypeError):
            continue  # somebody's own tag, under our prefix
    return sorted(found)


def _log(change: Change) -> None:
    # Two clocks may show the same microsecond: the end of the key keeps them apart.
    key = f"{_PREFIX}{change.at.strftime(_STAMP)}.{secrets.token_hex(2)}"
    value = {"version": change.version, "before": change.before, "how": change.how, "reason": change.reason[:4000]}
    text = json.dumps(value, ensure_ascii=False)
    mlflow.MlflowClient().set_registered_model_tag(MODEL_NAME, key, text)


def _now() -> datetime:
    """The time, but later than every change so far: a clock that was set back must not reorder the log."""
    last = max((change.at for change in _changes()), default=datetime.min.replace(tzinfo=UTC))
    return max(datetime.now(UTC), last + timedelta(microseconds=1))


def _exists(version: str) -> bool:
    try:
        mlflow.MlflowClient().get_model_version(MODEL_NAME, version)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise
    return True
