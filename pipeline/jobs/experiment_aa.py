"""`experiment aa-check`: splits the users of the warehouse again and again, where there is nothing to find."""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.data.sources.warehouse import MART
from pipeline.errors import InputError
from pipeline.experiments.assignment import split_of
from pipeline.experiments.statistics import ArmSums, difference, sample_ratio, smallest_effect, variance_of
from pipeline.jobs.inputs import open_warehouse
from pipeline.options import ExperimentOptions
from pipeline.runtime.progress import Reporter
from pipeline.settings import Settings
from pipeline.warehouse import sql

__all__ = ["RUNS", "AaResult", "aa_job"]

RUNS = 400
_AT_ONCE = 50  # salts of one query
_SIGMAS = 3.4  # above what is expected: 35 of 400 at an alpha of 0.05


@dataclass(frozen=True)
class AaResult:
    """Attributes
    ----------
    n_users, days : who was split, and days before the last interaction in which they count as active
    mean : of the metric
    n_runs, n_found : splits, and those of which the interval of one look finds a difference
    most : how many those may be
    n_mismatched : splits with a sample ratio mismatch
    smallest : the smallest difference that as many users show with the planned power; None where nobody is active
    """

    n_users: int
    days: float
    mean: float
    alpha: float
    n_runs: int
    n_found: int
    most: int
    n_mismatched: int
    smallest: float | None
    address: str

    @property
    def passed(self) -> bool:
        """Whether split and statistics find no more than chance explains."""
        return self.n_found <= self.most and not self.n_mismatched


def most_found(n_runs: int, alpha: float) -> int:
    """How many of so many splits may find something, where each does with a chance of `alpha`."""
    return math.ceil(n_runs * alpha + _SIGMAS * math.sqrt(n_runs * alpha * (1 - alpha)))


def aa_job(
    spec: ExperimentOptions, shares_text: str, days: float, settings: Settings, reporter: Reporter, seed: str = ""
) -> AaResult:
    """Split the users of the mart by `RUNS` salts, and compare what they did in the last days of the data.

    shares_text : percentages of the users, of each arm
    seed : of the salts; default, new ones each time

    Raises InputError where there is no mart, or no user in it.
    """
    split = split_of(shares_text, 2)
    shares = split[0] / sum(split), split[1] / sum(split)
    seed = seed or secrets.token_hex(8)
    found = mismatched = 0
    pairs: list[tuple[ArmSums, ArmSums]] = []
    with open_warehouse(settings) as warehouse:
        if warehouse.engine(MART) is None:
            raise InputError(f"{MART} is not in {warehouse.address}: rankline init makes it")
        for first in range(0, RUNS, _AT_ONCE):
            salts = [f"{seed}{number:04d}" for number in range(first, first + _AT_ONCE)]
            parameters = {"salts": salts, "until": split[0], "days": days}
            rows = warehouse.rows(sql.load("queries/experiment_aa").text, parameters)
            by = {(str(row["salt"]), str(row["arm"])): row for row in rows}
            pairs += [(_sums(by.get((salt, "a")), spec), _sums(by.get((salt, "b")), spec)) for salt in salts]
            reporter.progress("split", first + _AT_ONCE, RUNS)
        address = warehouse.address
    n_users = pairs[0][0].n + pairs[0][1].n
    if not n_users:
        raise InputError(f"{MART} in {address} has no users: rankline sample loads some")
    for a, b in pairs:
        seen = difference(a, b, spec.alpha, spec.min_effect)
        found += seen.fixed_low > 0 or seen.fixed_high < 0
        mismatched += sample_ratio((a.n, b.n), shares).mismatch
    variance = variance_of(*pairs[0])
    smallest = smallest_effect(variance, spec.alpha, spec.power) if 0 < variance < math.inf else None
    mean = (pairs[0][0].total + pairs[0][1].total) / n_users
    most = most_found(RUNS, spec.alpha)
    return AaResult(n_users, days, mean, spec.alpha, RUNS, found, most, mismatched, smallest, address)


def _sums(row: Mapping[str, Any] | None, spec: ExperimentOptions) -> ArmSums:
    if row is None:
        return ArmSums(0, 0.0, 0.0)
    if spec.outcome == "conversion":
        return ArmSums(int(row["n_users"]), float(row["n_active"]), float(row["n_active"]))
    return ArmSums(int(row["n_users"]), float(row["outcomes"]), float(row["outcomes_2"]))
