"""Rules about items: which may be recommended or are promoted, and when. A snapshot of them is one JSON file.

The batch job, `rankline recommend` and the served model all apply rules through `Scorer.under`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.id_map import IdMap
from pipeline.errors import ArtifactError, InputError
from pipeline.ranking.promotions import Promotion

__all__ = ["ACTIONS", "VARIABLE", "Rule", "Rules", "RulesFile", "now_ms"]

ACTIONS = ("deny", "allow", "promote")
_LONGEST_LABEL, _LARGEST_QUOTA = 60, 1000
# Names the snapshot that a served model applies.
VARIABLE = "RANKLINE_RULES"
_FORMAT = 1


@dataclass(frozen=True, order=True)
class Rule:
    """One rule, of an item or of a genre.

    Attributes
    ----------
    action : one of `ACTIONS`
    item_id : the item, as text; "" for a rule of a genre
    genre : the genre; "" for a rule of an item
    valid_from, valid_until : milliseconds since 1970 (UTC), from the first on and before the second; None, always
    reason : for people
    quota : of a rule that promotes, how many items of its label a list may hold because of it; None, 1
    label : of a rule that promotes, what readers are told
    """

    action: str
    item_id: str = ""
    genre: str = ""
    valid_from: int | None = None
    valid_until: int | None = None
    reason: str = ""
    quota: int | None = None
    label: str = ""

    @property
    def fault(self) -> str:
        """What is wrong with the rule; "" if nothing is."""
        if self.action not in ACTIONS:
            return f"action {self.action!r} is not one of {', '.join(ACTIONS)}"
        if bool(self.item_id) == bool(self.genre):
            return "it names an item_id and a genre" if self.item_id else "it names no item_id and no genre"
        if self.valid_from is not None and self.valid_until is not None and self.valid_until <= self.valid_from:
            return "valid_until is not after valid_from"
        if self.action != "promote" and (self.quota is not None or self.label):
            return f"quota and label are of promote, not of {self.action}"
        if self.quota is not None and not 1 <= self.quota <= _LARGEST_QUOTA:
            return f"quota {self.quota} is not from 1 to {_LARGEST_QUOTA}"
        if len(self.label) > _LONGEST_LABEL or not self.label.isprintable():
            return f"the label is not printable, or longer than {_LONGEST_LABEL} characters"
        return ""

    def has_begun(self, at: int) -> bool:
        """Whether `valid_from` has passed."""
        return self.valid_from is None or self.valid_from <= at

    def holds(self, at: int) -> bool:
        """Whether the rule is in force."""
        return self.has_begun(at) and (self.valid_until is None or at < self.valid_until)


@dataclass(frozen=True)
class Rules:
    """A snapshot of the rules.

    Attributes
    ----------
    rules : each once, in a fixed order
    genres : the ids (as text) of the items of each genre that a rule names, under the genre in lower case
    """

    rules: tuple[Rule, ...] = ()
    genres: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """sha256 of the rules and the items of their genres."""
        return hashlib.sha256(json.dumps(self._content(), sort_keys=True).encode()).hexdigest()

    def hidden(self, items: IdMap, at: int) -> NDArray[np.bool_] | None:
        """(n_items,) the items that no list may hold at that time, in ms since 1970; None if every item may.

        An item that a rule denies is hidden. If any rule that allows has begun, whether or not it has ended, so are
        all items that no rule allows now: once a permission has ended, the item must go.

        Raises InputError for an item id that can't be one of these items'.
        """
        hidden = np.zeros(len(items), np.bool_)
        hidden[self._rows([rule for rule in self.rules if rule.action == "deny" and rule.holds(at)], items)] = True
        allowing = [rule for rule in self.rules if rule.action == "allow" and rule.has_begun(at)]
        if allowing:
            allowed = np.zeros(len(items), np.bool_)
            allowed[self._rows([rule for rule in allowing if rule.holds(at)], items)] = True
            hidden |= ~allowed
        return hidden if hidden.any() else None

    def promotions(self, items: IdMap, at: int) -> tuple[Promotion, ...]:
        """The promotions in force at that time, in ms since 1970, by label; those of none of these items are left out.

        Rules of one label are one promotion; the smallest of their quotas counts.

        Raises InputError for an item id that can't be one of these items'.
        """
        by_label: dict[str, list[Rule]] = {}
        for rule in self.rules:
            if rule.action == "promote" and rule.holds(at):
                by_label.setdefault(rule.label, []).append(rule)
        promotions = []
        for label, rules in sorted(by_label.items()):
            chosen = np.zeros(len(items), np.bool_)
            chosen[self._rows(rules, items)] = True
            if chosen.any():
                promotions.append(Promotion(label, min(rule.quota or 1 for rule in rules), chosen))
        return tuple(promotions)

    def items_of(self, rule: Rule) -> tuple[str, ...]:
        """The ids of the items that a rule is about, as text."""
        return (rule.item_id,) if rule.item_id else self.genres.get(rule.genre.lower(), ())

    def _rows(self, rules: Sequence[Rule], items: IdMap) -> NDArray[np.int32]:
        """The rows of the items that the rules are about; a rule may be about items that are not among these."""
        ids = [rule.item_id for rule in rules if rule.item_id]
        of_genres = {item for rule in rules if rule.genre for item in self.items_of(rule)}
        if items.kind == "int":
            # A genre may have items of another catalogue. An id in a rule is meant, and refused if it can't be one.
            of_genres = {item for item in of_genres if _is_integer(item)}
        try:
            rows = items.rows(np.array([*ids, *sorted(of_genres)], dtype=str), missing="negative")
        except InputError as error:
            raise InputError(f"A rule is not for this model ({error}): correct it in analytics.rules") from None
        return rows[rows >= 0]

    # ---- the file ---------------------------------------------------------------------------

    def _content(self) -> dict[str, Any]:
        return {
            "format": _FORMAT,
            "rules": [_as_json(rule) for rule in self.rules],
            "genres": {name: list(items) for name, items in sorted(self.genres.items())},
        }

    def write(self, path: Path) -> None:
        """Write the snapshot in one step: a reader sees the old file or the new one."""
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({**self._content(), "digest": self.digest}, indent=1)
        handle, partial = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            Path(partial).chmod(0o644)
            Path(partial).replace(path)
        except BaseException:
            Path(partial).unlink(missing_ok=True)
            raise

    @classmethod
    def read(cls, path: Path) -> Rules:
        """The snapshot in a file. Raises ArtifactError for a file that is not a whole snapshot."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            rules = cls(
                tuple(Rule(**rule) for rule in content["rules"]),
                {str(name): tuple(map(str, items)) for name, items in content["genres"].items()},
            )
            whole = content["format"] == _FORMAT and content["digest"] == rules.digest
            whole = whole and not any(rule.fault for rule in rules.rules)
        except OSError as error:
            raise ArtifactError(f"The rules in {path} can't be read ({error.strerror})") from None
        except (ValueError, KeyError, TypeError, AttributeError):
            whole = False
        if not whole:
            raise ArtifactError(f"{path} is no snapshot of rules; `rankline score` and `rankline rules push` write one")
        return rules


class RulesFile:
    """A snapshot that is read again whenever its file has changed, for a service.

    Raises ArtifactError, at once and later, where the file can't be read: a list without rules is no answer.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int, int] | None = None
        self._rules = Rules()
        self.rules()

    @classmethod
    def of_environment(cls) -> RulesFile | None:
        """The file that the variable RANKLINE_RULES names; None if it is not set."""
        path = os.environ.get(VARIABLE)
        return cls(Path(path)) if path else None

    def rules(self) -> Rules:
        """The rules in the file now."""
        try:
            status = self._path.stat()
        except OSError as error:
            raise ArtifactError(f"{VARIABLE} names {self._path}, which can't be read ({error.strerror})") from None
        stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
        if stamp != self._stamp:
            self._rules, self._stamp = Rules.read(self._path), stamp
        return self._rules


def _as_json(rule: Rule) -> dict[str, Any]:
    """Without what only some rules have, so that the digest of the others is as it was before there was that."""
    return {name: value for name, value in asdict(rule).items() if value or name not in ("quota", "label")}


def now_ms() -> int:
    """Now by this machine's clock, milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def _is_integer(text: str) -> bool:
    return re.fullmatch(r"0|-?[1-9][0-9]{0,18}", text) is not None and -(2**63) <= int(text) < 2**63
