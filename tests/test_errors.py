"""The error tree: exit statuses and the forms of messages that people and scripts rely on."""

from __future__ import annotations

import pickle
import re

import pytest

from pipeline import errors

STATUS = {
    "RanklineError": 1,
    "UsageError": 2,
    "DivergedError": 2,
    "InputError": 3,
    "MissingColumnsError": 3,
    "BadRowsError": 3,
    "TooLittleDataError": 3,
    "SplitError": 3,
    "LeakageError": 3,
    "NotPromotedError": 3,
    "MissingRunError": 3,
    "ArtifactError": 3,
    "BackupError": 3,
    "EvaluationError": 4,
    "SignatureError": 3,
    "UnknownUserError": 3,
    "UnknownItemError": 3,
    "RowRangeError": 3,
    "NotFittedError": 1,
    "ServerError": 4,
    "UnreachableError": 4,
    "RefusedError": 4,
    "QueryError": 4,
    "BusyError": 4,
    "ConnectionLostError": 4,
    "TimedOutError": 4,
    "CheckFailedError": 3,
    "DataGateError": 3,
    "DoesNotFitError": 3,
    "InvalidInteractionError": 3,
    "IdempotencyConflictError": 3,
    "ForgottenUserError": 3,
    "InteractionLogError": 4,
    "JobTableError": 4,
    "LockedError": 4,
    "LockLostError": 4,
    "WarehouseInUseError": 4,
}


def test_every_error_is_listed_here_and_exported():
    defined = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, Exception) and value.__module__ == errors.__name__
    }
    assert defined == set(errors.__all__) == set(STATUS)


@pytest.mark.parametrize(("name", "status"), STATUS.items())
def test_exit_status(name, status):
    error = getattr(errors, name)
    assert issubclass(error, errors.RanklineError)
    assert error.exit_status == status


def test_the_tree_in_the_docstring_is_the_tree():
    parents: list[str] = []
    drawn = {}
    for line in errors.__doc__.splitlines():
        match = re.match(r"    ([ │├└─]*)(\w+Error)\b *(\d)?", line)
        if match:
            depth = len(match[1]) // 4
            parents[depth:] = [match[2]]
            drawn[match[2]] = parents[depth - 1] if depth else None
            if match[3]:
                assert getattr(errors, match[2]).exit_status == int(match[3])
    assert drawn == {
        name: None if name == "RanklineError" else getattr(errors, name).__bases__[0].__name__ for name in STATUS
    }


@pytest.mark.parametrize(
    ("name", "also"),
    [
        ("UsageError", ValueError),
        ("InputError", ValueError),
        ("UnknownUserError", KeyError),
        ("UnknownItemError", KeyError),
        ("RowRangeError", IndexError),
        ("NotFittedError", ValueError),
        ("NotFittedError", AttributeError),
    ],
)
def test_is_also_the_built_in_kind(name, also):
    assert issubclass(getattr(errors, name), also)


def test_only_nothing_answers_is_unreachable():
    """A file stands in for the warehouse on UnreachableError alone."""
    for name in STATUS:
        assert issubclass(getattr(errors, name), errors.UnreachableError) == (name == "UnreachableError")


@pytest.mark.parametrize("name", [name for name in STATUS if name not in ("MissingColumnsError", "NotFittedError")])
def test_message_is_the_text_itself(name):
    """A KeyError would put it in quotes."""
    text = "Unknown user 'x': it's not there"
    assert str(getattr(errors, name)(text)) == text
    assert str(getattr(errors, name)()) == name


def test_missing_columns_message():
    error = errors.MissingColumnsError(["user_id", "item_id"], ["a", "b"])
    assert str(error).startswith("Missing required columns: ['user_id', 'item_id']")
    assert "found: ['a', 'b']" in str(error)
    assert "--user-column" in str(error)
    assert (error.missing, error.columns) == (["user_id", "item_id"], ["a", "b"])
    # Any sequence, shown as a list; and where it was looked for.
    error = errors.MissingColumnsError(("user_id",), (), "x.csv")
    assert str(error).startswith("Missing required columns: ['user_id'] in x.csv (found: [])")


def test_not_fitted_message():
    assert str(errors.NotFittedError()) == "Model must be fitted before making predictions"
    assert str(errors.NotFittedError("other")) == "other"


@pytest.mark.parametrize("name", STATUS)
def test_survives_a_process_boundary(name):
    """Worker processes send their errors back pickled."""
    kind = getattr(errors, name)
    error = kind(["user_id"], ["a"], "x.csv") if name == "MissingColumnsError" else kind("what, where, what next")
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is kind
    assert str(back) == str(error)
    assert vars(back) == vars(error)
