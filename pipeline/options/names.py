"""The name of a model in the registry, and of everything that is its own: table, published sets, lock, history."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pipeline.options.base import Options, Rule, option

__all__ = ["DEFAULT", "DEFAULT_NAME", "Names"]

DEFAULT_NAME = "rankline"
_PATTERN = r"[a-z][a-z0-9_]{0,39}"
# The words that the names of a table's own sets are made with: analytics.recommendations_previous is no model's table.
_RESERVED = frozenset(("previous", "published", "staged", "moving"))


def _is_name(text: str) -> bool:
    return re.fullmatch(_PATTERN, text) is not None and _RESERVED.isdisjoint(text.split("_"))


@dataclass(frozen=True)
class Names(Options):
    """What belongs to one model. Models of different names lie side by side and share nothing but the interactions.

    Raises UsageError where the name is not allowed.
    """

    SECTION: ClassVar[str] = "model"

    name: Annotated[
        str,
        Rule(
            _is_name,
            "a lower-case letter, then at most 39 lower-case letters, digits and _ "
            f"(none of the words {', '.join(sorted(_RESERVED))})",
            f"^{_PATTERN}$",
        ),
    ] = option(
        DEFAULT_NAME,
        "Which of several models side by side.",
        details="It names the registered model; the table of another than rankline is analytics.recommendations_NAME.",
    )

    @property
    def is_default(self) -> bool:
        """Whether it is the name that holds where none is given."""
        return self.name == DEFAULT_NAME

    @property
    def model(self) -> str:
        """The registered model."""
        return self.name

    @property
    def sets(self) -> str:
        """What the names of its tables in analytics begin with; the published one is called just that."""
        return "recommendations" if self.is_default else f"recommendations_{self.name}"

    @property
    def previous_set(self) -> str:
        """The table before the published one, in analytics."""
        return f"{self.sets}_previous"

    @property
    def table(self) -> str:
        """The published table."""
        return f"analytics.{self.sets}"

    @property
    def previous(self) -> str:
        """The table that was published before."""
        return f"analytics.{self.previous_set}"

    @property
    def tickets(self) -> str:
        """What the names of the tickets of its lock begin with."""
        return "publish_lock_" if self.is_default else f"publish_lock_{self.name}_"

    @property
    def typed(self) -> str:
        """As it is added to a command, with a blank in front; "" for the default."""
        return "" if self.is_default else f" --name {self.name}"


DEFAULT = Names()
