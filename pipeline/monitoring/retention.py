"""Which versions of a model stay, and why: plain values in, a plan out. `pipeline.jobs.retain` carries it out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pipeline.tracking.champion_log import ChampionChange
from pipeline.tracking.version_deletion import VersionFacts

__all__ = ["Needs", "RetentionPlan", "champions_since", "plan_retention"]


@dataclass(frozen=True)
class Needs:
    """What keeps versions, besides their numbers.

    Attributes
    ----------
    aliases : alias → version
    changes : every change of the champion
    champion : the version that is champion now, "" for none
    last_good : versions that a rollback would go back to
    published : run → the table of the warehouse whose rows it made
    """

    aliases: Mapping[str, str]
    changes: Sequence[ChampionChange] = ()
    champion: str = ""
    last_good: Sequence[str] = ()
    published: Mapping[str, str] | None = None


@dataclass(frozen=True)
class RetentionPlan:
    """`kept`: version → why it stays, the newest first. `old`: the versions that go, the oldest first."""

    kept: Mapping[str, tuple[str, ...]]
    old: tuple[VersionFacts, ...]


def plan_retention(
    versions: Sequence[VersionFacts], needs: Needs, *, keep_versions: int, keep_champions_days: float, now: datetime
) -> RetentionPlan:
    """Part the versions of a model into those that something needs, or that are new, and the others.

    A version that new data was folded into needs the version that it comes from: the next night folds into that again.
    """
    newest_first = sorted(versions, key=lambda version: -int(version.version))
    reasons: dict[str, list[str]] = {version.version: [] for version in versions}

    def keep(version: str, why: str) -> None:
        if version in reasons:
            reasons[version].append(why)

    for version in newest_first[:keep_versions]:
        keep(version.version, f"one of the newest {keep_versions}")
    for alias, version_of_alias in sorted(needs.aliases.items()):
        keep(version_of_alias, f"has the alias {alias}")
    if needs.champion and needs.champion not in needs.aliases.values():
        keep(needs.champion, "is the champion")
    for number in champions_since(needs.changes, now, keep_champions_days):
        keep(number, f"was champion within {keep_champions_days:g} days")
    for number in needs.last_good:
        keep(number, "a rollback would go back to it")
    for version in versions:
        published = needs.published or {}
        if table := published.get(version.run_id) or published.get(version.restored_from):
            keep(version.version, f"{table} was made from it")
    for version in newest_first:  # a version is folded into an older one, so each is looked at after those that need it
        if reasons[version.version] and version.folded_from:
            keep(version.folded_from, f"version {version.version} was folded into it")
    kept = {version.version: tuple(reasons[version.version]) for version in newest_first if reasons[version.version]}
    old = tuple(version for version in reversed(newest_first) if version.version not in kept)
    return RetentionPlan(kept, old)


def champions_since(changes: Sequence[ChampionChange], now: datetime, days: float) -> list[str]:
    """The versions that were champion at some moment of the last days, each once, in order.

    A champion reigns from its change to the next one; the last one still does. A clock that is behind the log counts
    as the log's last moment.
    """
    ordered = sorted(changes)
    if not ordered:
        return []
    now = max(now, ordered[-1].at)
    since = now - timedelta(days=days) if days < (now - datetime.min.replace(tzinfo=UTC)).days else None
    ends = [change.at for change in ordered[1:]] + [now]
    reigns = [change.version for change, end in zip(ordered, ends, strict=True) if since is None or end >= since]
    # Who reigned before the first change of the log did so until then.
    if ordered[0].before and (since is None or ordered[0].at >= since):
        reigns.insert(0, ordered[0].before)
    return list(dict.fromkeys(reigns))
