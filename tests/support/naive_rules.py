"""What rules leave of a list of items, one item and one rule at a time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pipeline.ranking.rules import Rule

__all__ = ["may_be_recommended"]


def may_be_recommended(item: int | str, rules: Iterable[Rule], genres: Mapping[str, Sequence[str]], at: int) -> bool:
    """Whether an item may be in a list; `genres` has the items of each genre, as text."""
    denied, anything_was_allowed, allowed = False, False, False
    for rule in rules:
        about = rule.item_id == str(item) if rule.item_id else str(item) in genres.get(rule.genre.lower(), ())
        begun = rule.valid_from is None or at >= rule.valid_from
        ended = rule.valid_until is not None and at >= rule.valid_until
        if rule.action == "deny" and about and begun and not ended:
            denied = True
        if rule.action == "allow" and begun:
            anything_was_allowed = True
            allowed = allowed or (about and not ended)
    return not denied and (allowed or not anything_was_allowed)
