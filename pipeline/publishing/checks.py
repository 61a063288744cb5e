"""What a staged table must pass before anyone reads it: SQL that returns the rows that are wrong (sql/checks/)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.errors import CheckFailedError
from pipeline.ranking.diversity import GenreLimit
from pipeline.ranking.promotions import Promotion
from pipeline.warehouse import Warehouse, sql

__all__ = ["COMPARING", "OF_THE_ROWS", "OF_THE_SET", "Failure", "PublishLimits", "failures", "refusal"]

# Of the rows by themselves; of the rows beside the model and what is seen; beside the table before.
OF_THE_ROWS = ("lineage", "lists", "forgotten")
OF_THE_SET = (
    "sources", "fallback_share", "known_users", "known_items", "rules", "seen", "list_length", "genre_limit",
    "promotions",
)  # fmt: skip
COMPARING = ("newer", "other_source", "coverage", "row_count")
# What a person may accept, since it may be meant; a wrong row never is.
ACCEPTABLE = frozenset({"fallback_share", *COMPARING})
_SHOWN = 3


@dataclass(frozen=True)
class PublishLimits:
    """Attributes
    ----------
    k : items a user, at most
    strangers : whether users of the warehouse who are not in the model get a list too
    max_coverage_drop : share of the users (and of the rows) before that may be gone, 0–1
    max_fallback : share of rows that may be of users who are not in the model, 0–1
    accept_changes : publish although one of the limits is passed
    genres : how many items of one genre, or series, a list may hold; None for any number
    promotions : of items, with their quotas
    """

    k: int
    strangers: bool = False
    max_coverage_drop: float = 0.2
    max_fallback: float = 0.5
    accept_changes: bool = False
    genres: GenreLimit | None = None
    promotions: tuple[Promotion, ...] = ()

    @property
    def values(self) -> dict[str, Any]:
        """For SQL."""
        return {
            "k": self.k,
            "strangers": int(self.strangers),
            "max_coverage_drop": self.max_coverage_drop,
            "max_fallback": self.max_fallback,
            "max_per_genre": (self.genres and self.genres.max_per_genre) or 0,
            "max_per_series": (self.genres and self.genres.max_per_series) or 0,
            "promoted": [promotion.source for promotion in self.promotions],
            "quotas": [promotion.quota for promotion in self.promotions],
        }


@dataclass(frozen=True)
class Failure:
    """A check that found rows.

    Attributes
    ----------
    check : its name, that of its file
    n : how many it found
    rows : the first of them
    """

    check: str
    n: int
    rows: tuple[dict[str, Any], ...]

    @property
    def acceptable(self) -> bool:
        """Whether `accept_changes` passes over it."""
        return self.check in ACCEPTABLE

    def __str__(self) -> str:
        shown = "; ".join(" ".join(f"{name}={_short(value)}" for name, value in row.items()) for row in self.rows)
        return f"{self.check} ({self.n:,} found: {shown}{' …' if self.n > len(self.rows) else ''})"


def _short(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 60 else text[:59] + "…"


def failures(warehouse: Warehouse, names: tuple[str, ...], parameters: Mapping[str, Any]) -> list[Failure]:
    """Run the checks, all of them: what each found, where it found something."""
    failed = []
    for name in names:
        rows = warehouse.rows(sql.few_of(sql.load(f"checks/{name}"), _SHOWN).text, parameters)
        if rows:
            n = int(rows[0]["n_offending"])
            wrong = tuple({key: value for key, value in row.items() if key != "n_offending"} for row in rows)
            failed.append(Failure(name, n, wrong))
    return failed


def refusal(failed: list[Failure], staged: str, accept_changes: bool) -> CheckFailedError | None:
    """Why the rows are not published; None where all that was found may be accepted, and is."""
    wrong = [failure for failure in failed if not (failure.acceptable and accept_changes)]
    if not wrong:
        return None
    others = (
        f", and {len(wrong) - 1} more ({', '.join(failure.check for failure in wrong[1:])})" if len(wrong) > 1 else ""
    )
    what_next = (
        "--accept-changes yes publishes them, where that is meant"
        if all(failure.acceptable for failure in wrong)
        else f"sql/checks/{wrong[0].check}.sql says what is wrong with them"
    )
    return CheckFailedError(
        f"Not published: the rows fail the check {wrong[0]}{others}. "
        f"They are in analytics.{staged} for a day; {what_next}",
        wrong[0].check,
    )
