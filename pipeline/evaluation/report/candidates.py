"""The models that a choice compared, as rows of a table and of a picture."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.evaluation.significance import Interval

__all__ = ["COLUMNS", "CandidateRow"]

# Titles of the columns; {metric} is what the choice was made by.
COLUMNS = ("model", "{metric} on the validation part", "over most popular", "fit seconds", "trials", "options")


@dataclass(frozen=True)
class CandidateRow:
    """Attributes
    ----------
    model : its display name; with a note where it was measured on a sample of the users
    interval : mean of the metric over the validation users
    over_popular : the lift in words; "" for most popular itself
    options : of its best trial that differ from their defaults, as command-line options
    """

    model: str
    interval: Interval
    over_popular: str
    fit_seconds: float
    n_trials: int
    options: str

    @property
    def cells(self) -> tuple[str, ...]:
        """The texts of the columns of `COLUMNS`."""
        value, low, high = self.interval
        measured = f"{value:.4f} [{low:.4f}, {high:.4f}]"
        return (self.model, measured, self.over_popular, f"{self.fit_seconds:.2f}", str(self.n_trials), self.options)
