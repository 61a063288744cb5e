"""Every error Rankline raises on purpose, and the exit status each one ends a command with.

    RanklineError                      1
    ├── UsageError                     2   a wrong option or value
    │   └── DivergedError                  a fit whose factors grew without end: nothing of it is kept
    ├── InputError                     3   input missing, malformed, or too small
    │   ├── MissingColumnsError
    │   ├── BadRowsError
    │   ├── TooLittleDataError
    │   ├── SplitError                     a split that can't be made of these interactions
    │   │   └── LeakageError                   a model or its training side has held-out interactions
    │   ├── NotPromotedError               the gate does not hold: the champion stays
    │   ├── MissingRunError                a run that MLflow does not have, or has no more
    │   ├── ArtifactError                  another format, a wrong checksum, a missing file
    │   │   ├── EvaluationError            4   a run's evaluation is there and can't be read
    │   │   └── SignatureError                 a model that no signing key vouches for
    │   ├── BackupError                    a backup that is damaged, was changed, or is not whole
    │   ├── CheckFailedError               a check of the rows to be published: they are not
    │   ├── DataGateError                  the data is past a limit: nothing is trained on it
    │   ├── DoesNotFitError                it needs more memory than there is
    │   ├── InvalidInteractionError        an interaction that the warehouse could not hold
    │   ├── IdempotencyConflictError       an idempotency key that came with other interactions before
    │   ├── ForgottenUserError             a user who was forgotten: nothing of theirs is stored
    │   ├── UnknownUserError               (also a KeyError)
    │   ├── UnknownItemError               (also a KeyError)
    │   └── RowRangeError                  (also an IndexError)
    ├── NotFittedError                 1   (also a ValueError and an AttributeError, as scikit-learn's)
    └── ServerError                    4   a server that can't be used
        ├── UnreachableError               nothing answers: the only one a file may stand in for
        ├── RefusedError                   it answers, and says no
        ├── QueryError                     it answers, and the query fails
        │   ├── BusyError                      too much to do just now: nothing was done
        │   └── ConnectionLostError            the answer never came, whether or not the statement ran
        │       └── TimedOutError                  not in time: it may be running still
        ├── InteractionLogError            the interaction log can't be read or written: damaged, a full disk
        ├── JobTableError                  the service's table of jobs can't be read or written
        └── LockedError                    the embedded warehouse, the published tables, or a file are in use
            ├── WarehouseInUseError            the embedded warehouse: nothing was done
            └── LockLostError                  this process stood still, and another took the published tables over

A message is one line: what happened, where, and what to do next. It never holds a password.
An interrupted command ends with 130.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "ArtifactError",
    "BackupError",
    "BadRowsError",
    "BusyError",
    "CheckFailedError",
    "ConnectionLostError",
    "DataGateError",
    "DivergedError",
    "DoesNotFitError",
    "EvaluationError",
    "ForgottenUserError",
    "IdempotencyConflictError",
    "InputError",
    "InteractionLogError",
    "InvalidInteractionError",
    "JobTableError",
    "LeakageError",
    "LockLostError",
    "LockedError",
    "MissingColumnsError",
    "MissingRunError",
    "NotFittedError",
    "NotPromotedError",
    "QueryError",
    "RanklineError",
    "RefusedError",
    "RowRangeError",
    "ServerError",
    "SignatureError",
    "SplitError",
    "TimedOutError",
    "TooLittleDataError",
    "UnknownItemError",
    "UnknownUserError",
    "UnreachableError",
    "UsageError",
    "WarehouseInUseError",
]


_SHOWN, _LONGEST_NAME = 30, 60


class RanklineError(Exception):
    """The root: everything below it is shown as one line, without a traceback."""

    exit_status = 1

    def __str__(self) -> str:
        # KeyError would quote its message; the message is the whole text here.
        text = str(self.args[0]) if self.args else self.__class__.__name__
        # It may repeat what a file or a server said, which could otherwise clear the screen or forge a line of a log.
        return text if text.isprintable() else "".join(map(_shown, text))


def _shown(character: str) -> str:
    if character.isprintable():
        return character
    return " " if character.isspace() else character.encode("unicode_escape").decode()


class UsageError(RanklineError, ValueError):
    """A wrong option or value."""

    exit_status = 2


class DivergedError(UsageError):
    """A fit whose loss grew without end, with these options: there is no model, and the one before stays."""


class InputError(RanklineError, ValueError):
    """Input that is missing, malformed, or too small."""

    exit_status = 3


class MissingColumnsError(InputError):
    """Required columns are not there; the message names those that were found.

    advice : what to do, where the columns are not those of interactions
    """

    def __init__(
        self, missing: Sequence[str], columns: Sequence[str], where: str = "", hint: str = "", advice: str = ""
    ) -> None:
        place = f" in {where}" if where else ""
        # A file with a hundred thousand columns, or with all of its text in the first line, would make a page of it.
        some = ", ".join(
            repr(name if len(name) <= _LONGEST_NAME else name[:_LONGEST_NAME] + "…") for name in columns[:_SHOWN]
        )
        more = f", … {len(columns)} in all" if len(columns) > _SHOWN else ""
        if list(missing) == ["event"]:  # of files alone
            usual = "Name it with --event-column."
        else:
            usual = "Name them with --user-column, --item-column, …, or alias them in the query."
        super().__init__(
            f"Missing required columns: {list(missing)}{place} (found: [{some}{more}]). {advice or usual}"
            + (f" {hint}" if hint else "")
        )
        self.missing = list(missing)
        self.columns = list(columns)
        self.where, self.hint, self.advice = where, hint, advice

    def __reduce__(self) -> tuple[type[MissingColumnsError], tuple[list[str], list[str], str, str, str]]:
        # Pickle would pass the message alone, and a worker process could not send this back.
        return type(self), (self.missing, self.columns, self.where, self.hint, self.advice)


class BadRowsError(InputError):
    """Rows that no score can be read from: missing ids, NaN, infinite or negative scores."""


class TooLittleDataError(InputError):
    """Fewer interactions than the least to train on."""


class SplitError(InputError):
    """Interactions that can't be parted as asked: no times, nobody left on one side, pairs that come twice."""


class LeakageError(SplitError):
    """The training side, or a model, has interactions that are held out."""


class NotPromotedError(InputError):
    """A version did not pass the gate; the champion stays."""


class MissingRunError(InputError):
    """A run that MLflow's store does not have, or has no more."""


class ArtifactError(InputError):
    """Model artifacts of another format, with a wrong checksum, or with a file missing."""


class EvaluationError(ArtifactError):
    """The evaluation of a run is there and can't be read.

    Its own exit status: a schedule must not take it for "the champion stays", which is 3.
    """

    exit_status = 4


class SignatureError(ArtifactError):
    """A model that is not signed, or not with one of the signing keys that are set."""


class BackupError(InputError):
    """A backup that is damaged, was changed, or is not whole: nothing of it is restored."""


class CheckFailedError(InputError):
    """Rows that a check before publishing (sql/checks/) turned down; `check` names the first that did."""

    def __init__(self, message: str = "CheckFailedError", check: str = "") -> None:
        super().__init__(message)
        self.check = check

    def __reduce__(self) -> tuple[type[CheckFailedError], tuple[str, str]]:
        return type(self), (str(self), self.check)


class DataGateError(InputError):
    """The data that was read is past a limit that was set (RANKLINE_LIMIT_…)."""


class DoesNotFitError(InputError):
    """What was asked for needs more memory than is free; the message says what would fit."""


class InvalidInteractionError(InputError):
    """An interaction that the warehouse's columns can't hold; `position` counts from 0 in its batch."""

    def __init__(self, message: str = "InvalidInteractionError", position: int = 0) -> None:
        super().__init__(message)
        self.position = position

    def __reduce__(self) -> tuple[type[InvalidInteractionError], tuple[str, int]]:
        return type(self), (str(self), self.position)


class IdempotencyConflictError(InputError):
    """An idempotency key came before, with other interactions."""


class ForgottenUserError(InputError):
    """Interactions of a user who was forgotten; nothing of the batch is stored."""


class UnknownUserError(InputError, KeyError):
    """A user id that the model was not trained on."""


class UnknownItemError(InputError, KeyError):
    """An item id that the model was not trained on."""


class RowRangeError(InputError, IndexError):
    """A row or column number outside the factors."""


class NotFittedError(RanklineError, ValueError, AttributeError):
    """A prediction was asked of an estimator that was not fitted."""

    def __init__(self, message: str = "Model must be fitted before making predictions") -> None:
        super().__init__(message)


class ServerError(RanklineError):
    """A server (warehouse or MLflow) that can't be used."""

    exit_status = 4


class UnreachableError(ServerError):
    """Nothing answers at the server's address."""


class RefusedError(ServerError):
    """The server answers and refuses: a wrong password, a missing grant, another protocol."""


class QueryError(ServerError):
    """The server answers and the query fails; `code` is the server's own number for it, where it gave one."""

    code: int | None = None


class BusyError(QueryError):
    """The server has too much to do just now, and did nothing."""


class ConnectionLostError(QueryError):
    """The connection broke, or no answer came in time: whether the statement ran is not known."""


class TimedOutError(ConnectionLostError):
    """No answer came in time: the statement may be running still."""


class InteractionLogError(ServerError):
    """The interaction log can't be read or written; nothing that failed so was acknowledged."""


class JobTableError(ServerError):
    """The service's table of jobs can't be read or written; nothing that failed so was accepted."""


class LockedError(ServerError):
    """The embedded warehouse, the published tables, or a file are in use by another process."""


class WarehouseInUseError(LockedError):
    """Another process has the embedded warehouse open."""


class LockLostError(LockedError):
    """The lock on the published tables was lost: this process stood still for too long, and others went on."""
