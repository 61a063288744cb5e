"""A slow, obvious twin of an interaction log and the warehouse that it is shipped to: lists that are searched."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["NaiveLog"]


@dataclass
class NaiveLog:
    """Rows are (seq, user, item, rating, at in ms); `warehouse` has them as shipped."""

    rows: list[tuple[int, int, int, float | None, int]] = field(default_factory=list)
    warehouse: list[tuple[int, int, int, float | None, int]] = field(default_factory=list)
    requests: dict[str, tuple[object, int, int]] = field(default_factory=dict)
    forgotten: set[int] = field(default_factory=set)
    newest: int = 0
    shipped: int = 0

    def append(self, interactions: list[tuple[int, int, float | None, int]], key: str) -> tuple[int, int, bool] | str:
        """First and last seq and whether it is a duplicate, or the name of the error."""
        if key in self.requests:
            content, first, last = self.requests[key]
            return (first, last, True) if content == interactions else "IdempotencyConflictError"
        if any(user in self.forgotten for user, *_ in interactions):
            return "ForgottenUserError"
        first = self.newest + 1
        for interaction in interactions:
            self.newest += 1
            self.rows.append((self.newest, *interaction))
        if key:
            self.requests[key] = (interactions, first, self.newest)
        return first, self.newest, False

    def ship(self) -> None:
        """Everything that waits arrives."""
        self.warehouse += [row for row in self.rows if row[0] > self.shipped]
        self.shipped = self.newest

    def forget(self, user: int) -> None:
        """The user is gone from both sides."""
        self.forgotten.add(user)
        self.rows = [row for row in self.rows if row[1] != user]
        self.warehouse = [row for row in self.warehouse if row[1] != user]

    def lift(self, user: int) -> None:
        """The user may come back."""
        self.forgotten.discard(user)

    def trim(self) -> None:
        """Seven days later: what was shipped leaves the log, and keys are forgotten."""
        self.rows = [row for row in self.rows if row[0] > self.shipped]
        self.requests = {}
