"""`Experiment`: what is fixed before anything is seen, as it is kept in the registry."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from pipeline.errors import InputError, UsageError
from pipeline.experiments.assignment import BUCKETS, bucket

__all__ = ["ARMS", "METRICS", "Experiment", "Metric", "alias_of", "check_name"]

ARMS = ("a", "b")
METRICS = ("conversion", "outcomes")
Metric = Literal["conversion", "outcomes"]
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_FORMAT = 1


@dataclass(frozen=True)
class Experiment:
    """An A/B test of two versions of a registered model.

    Attributes
    ----------
    versions : of arm a, which is what there was before, and of arm b; the numbers in the registry
    split : buckets of each arm (`assignment`)
    salt : makes its assignment independent of other experiments'
    started : milliseconds since 1970, UTC
    metric : what is compared, a user: ``conversion``, 1 for a user with an outcome and else 0; ``outcomes``, how many
    min_effect : the smallest difference, in the unit of the metric, that is worth knowing of
    alpha : the chance that arms that don't differ are said to, over all looks together
    power : the chance with which a difference of `min_effect` is to be seen
    min_days : days before which nothing is decided but to roll back: people do other things on other days
    relevant_from : ratings below it are no outcomes; None: all interactions are
    state : ``running``, or ``stopped``
    stopped, winner : when it ended, and the arm whose version was promoted, "" for none
    """

    name: str
    versions: tuple[str, str]
    split: tuple[int, int]
    salt: str
    started: int
    metric: Metric = "conversion"
    min_effect: float = 0.01
    alpha: float = 0.05
    power: float = 0.8
    min_days: float = 7.0
    relevant_from: float | None = None
    state: Literal["running", "stopped"] = "running"
    stopped: int | None = None
    winner: str = ""

    @property
    def running(self) -> bool:
        """Whether users are assigned by it."""
        return self.state == "running"

    def arm(self, user_id: int | str) -> int:
        """The arm of a user: 0 is a, 1 is b."""
        return int(bucket(self.salt, user_id) >= self.split[0])

    @property
    def shares(self) -> tuple[float, float]:
        """The share of users that each arm is to have, 0–1."""
        return self.split[0] / BUCKETS, self.split[1] / BUCKETS

    @property
    def text(self) -> str:
        """As a text, for `parse`."""
        return json.dumps({"format": _FORMAT, **asdict(self)})

    @classmethod
    def parse(cls, text: str) -> Experiment:
        """The experiment of a text. Raises InputError for one that is damaged, or of a later version of Rankline."""
        try:
            value: dict[str, Any] = json.loads(text)
            known = {entry.name for entry in fields(cls)}
            if value.pop("format") != _FORMAT or value.keys() - known:
                raise ValueError
            value["versions"], value["split"] = tuple(map(str, value["versions"])), tuple(map(int, value["split"]))
            experiment = cls(**value)
            wrong = (
                _NAME.fullmatch(experiment.name) is None
                or len(experiment.versions) != len(ARMS)
                or len(experiment.split) != len(ARMS)
                or sum(experiment.split) != BUCKETS
                or min(experiment.split) < 1
                or not (isinstance(experiment.salt, str) and experiment.salt)
                or experiment.metric not in METRICS
                or experiment.state not in ("running", "stopped")
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            wrong = True
        if wrong:
            raise InputError("The definition of an experiment can't be read: it is damaged, or of a later version")
        return experiment


def check_name(name: str) -> str:
    """The name of an experiment. Raises UsageError."""
    if _NAME.fullmatch(name) is None:
        raise UsageError(
            "The name of an experiment is a lower-case letter, then at most 39 lower-case letters, digits and _; "
            f"got {name!r}"
        )
    return name


def alias_of(name: str, arm: str) -> str:
    """The alias in the registry that keeps the version of an arm while the experiment runs."""
    return f"experiment-{name}-{arm}"
