"""The published set, the one before it and older ones: which table holds which, and the moves between them.

A set is known by its rows (all say the same `generated_at`), never by where it lies: so whatever was interrupted,
`tidy` finds every set and puts it under the name that is its own. Each move is a rename or an exchange of one pair,
which is atomic; a RENAME of two pairs and CREATE OR REPLACE are not. What is moved was claimed under the lock before
(`lock`), so that a statement of a job that lost the lock can't move it.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from pipeline.errors import ConnectionLostError, InputError, LockLostError, QueryError, ServerError
from pipeline.options.names import DEFAULT, Names
from pipeline.publishing.lock import CLAIMED, EXCHANGE, RENAME, PublishLock, publish_lock
from pipeline.publishing.publication_log import create_log, log_event, published_names, published_source
from pipeline.publishing.published_sets import (
    PREVIOUS,
    PUBLISHED,
    PublishedSet,
    digest,
    head,
    holds_its_own,
    is_staged,
    sets,
    staged_name,
)
from pipeline.warehouse import Warehouse, sql

__all__ = [
    "PREVIOUS",
    "PUBLISHED",
    "PublishedSet",
    "create_log",
    "digest",
    "head",
    "is_staged",
    "log_event",
    "name_for_staged",
    "published_names",
    "published_source",
    "roll_back",
    "sets",
    "settle",
    "staged_name",
    "swap_in",
    "tidy",
    "tidy_after",
]

_GOING_BACK = "going_back"
_SETTLING = 20.0  # seconds that a job which has lost the lock waits for another, to put things in order


def tidy(warehouse: Warehouse, keep: int, lock: PublishLock) -> None:
    """Put every set under its own name, and drop all but `keep` besides the published one.

    PREVIOUS is the newest that is older than the published one and that nobody went back from; the others
    bear their time and run. It may be stopped anywhere and begun again: what an interrupted job had claimed for a
    move is put where its rows say. Raises LockLostError where the lock was lost.

    Each table is claimed before it is exchanged, put under a name or dropped, so that none of these statements can
    hit, however late it arrives, what another job has put there since (see `lock`). The rest does no harm when late:
    a row of the log says what was done under the lock.
    """
    _put_back_staged(warehouse, lock)
    names = lock.names
    by_table = sets(warehouse, names)
    current = by_table.pop(names.sets, None)
    if current is None:
        return
    rolled_back = {str(row["name"]) for row in warehouse.rows(sql.load("queries/rolled_back").text)}
    for name, published in by_table.items():
        # Claimed by a rollback, and newer than what is published: it was exchanged, and the job stopped right then.
        if (
            name.endswith(f"_{_GOING_BACK}")
            and published.at_ms > current.at_ms
            and published.kept_name not in rolled_back
        ):
            log_event(
                warehouse, "rolled back", replace(published, table=published.kept_name), note=f"to {current.kept_name}"
            )
            rolled_back.add(published.kept_name)
    candidates = [
        published
        for published in by_table.values()
        if published.at_ms <= current.at_ms
        and published.kept_name != current.kept_name
        and published.kept_name not in rolled_back
    ]
    new_previous = max(
        candidates, key=lambda published: (published.at_ms, published.table == names.previous_set), default=None
    )
    if new_previous is not None and new_previous.table != names.previous_set:
        del by_table[new_previous.table]
        displaced = _put_before(warehouse, lock, new_previous, by_table.pop(names.previous_set, None))
        if displaced is not None:
            by_table[displaced.table] = displaced
    others = sorted(
        (published for published in by_table.values() if published != new_previous),
        key=lambda published: published.at_ms,
    )
    n_too_many = max(0, len(others) + (new_previous is not None) - keep)
    for published in others[n_too_many:]:
        _keep(warehouse, lock, published)
    for published in others[:n_too_many]:
        lock.drop(published.table)


def tidy_after(warehouse: Warehouse, keep: int, lock: PublishLock) -> None:
    """`tidy` once the move itself is done: losing the lock is no failure then, and another one is taken for it."""
    try:
        tidy(warehouse, keep, lock)
    except (LockLostError, QueryError):
        if lock.held:
            raise
        settle(warehouse, keep, lock.expiry, lock.names)


def _put_back_staged(warehouse: Warehouse, lock: PublishLock) -> None:
    """Rename claimed staged tables that were not exchanged back to their names; drop empty ones."""
    for row in warehouse.rows(sql.load("queries/claimed_tables").text, {"sets": lock.names.sets}):
        name = str(row["name"])
        claimed = CLAIMED.fullmatch(name)
        if claimed is None or not lock.claimed(name):
            continue
        claimed_set = head(warehouse, name)
        if claimed_set is None:
            lock.drop(name)
        elif holds_its_own(name, claimed_set, lock.names):
            lock.move(RENAME, name, f"{lock.names.sets}{claimed['purpose']}")


def _put_before(
    warehouse: Warehouse, lock: PublishLock, due: PublishedSet, before: PublishedSet | None
) -> PublishedSet | None:
    """Make `due` the previous set; returns the set that it replaces, with its present table."""
    names = lock.names
    exists = warehouse.engine(names.previous) is not None
    table = due.table if lock.claimed(due.table) else lock.claim(due.table)
    lock.move(EXCHANGE if exists else RENAME, table, names.previous_set)
    if exists and before is None:
        lock.drop(table)  # it had no rows
    return before and replace(before, table=table)


def _keep(warehouse: Warehouse, lock: PublishLock, kept_set: PublishedSet) -> None:
    """Rename the set's table to its name among the older sets."""
    name = kept_set.kept_name
    if kept_set.table.startswith(name):
        return
    if warehouse.engine(f"analytics.{name}") is not None:
        # Somebody made a copy under that name: keep both.
        name += uuid.uuid4().hex[:6]
    lock.move(RENAME, kept_set.table if lock.claimed(kept_set.table) else lock.claim(kept_set.table), name)


def settle(warehouse: Warehouse, keep: int, expiry: float | None = None, names: Names = DEFAULT) -> None:
    """Tidy under a new lock, after the caller has lost its own. If that fails, the next job tidies."""
    with (
        suppress(ServerError),
        publish_lock(warehouse, "tidying up", patience=_SETTLING, expiry=expiry, names=names) as lock,
    ):
        tidy(warehouse, keep, lock)


def swap_in(warehouse: Warehouse, staged: str, lock: PublishLock, claimed: str | None = None) -> None:
    """Publish the staged table. The table that was published before then has the name of the claim.

    The first publish is a rename, every later one an exchange. If the connection breaks, it is unknown whether the
    statement was or will be executed. So the staged table is renamed back, after which the statement can no longer
    succeed, and the published table shows whether it did.

    Raises LockLostError if the lock was lost; then nothing was moved.
    """
    names = lock.names
    staged_set = head(warehouse, staged)
    first = warehouse.engine(names.table) is None
    table = lock.claim(staged, claimed or name_for_staged(lock, staged))
    try:
        if first:
            try:
                lock.move(RENAME, table, names.sets)
            except ConnectionLostError:
                raise
            except QueryError:
                # Another job may have published the first set meanwhile: then exchange with it.
                if warehouse.engine(names.table) is None:
                    raise
                lock.check()
            else:
                return
        lock.move(EXCHANGE, table, names.sets)
    except ConnectionLostError:
        with suppress(QueryError, LockLostError):
            lock.move(RENAME, table, staged)
        published = head(warehouse, names.sets) if warehouse.engine(names.table) is not None else None
        if staged_set is None or published is None or published.at_ms != staged_set.at_ms:
            raise


def name_for_staged(lock: PublishLock, staged: str) -> str:
    """A name for claiming a staged table, which contains the staged name."""
    return lock.name(staged.removeprefix(f"{lock.names.sets}_"))


def roll_back(
    warehouse: Warehouse, keep: int, lock: PublishLock, look: Callable[[PublishedSet], None] = lambda _: None
) -> tuple[PublishedSet, PublishedSet]:
    """Exchange the published set with the previous one; returns both as they were before.

    look : called with the previous set; if it raises, nothing is moved

    Raises InputError if there is no previous set, LockLostError if the lock was lost.
    """
    names = lock.names
    tidy(warehouse, keep, lock)
    in_place = sets(warehouse, names)
    current, before = in_place.get(names.sets), in_place.get(names.previous_set)
    if current is None:
        raise InputError(f"{names.table} holds nothing in {warehouse.address}: there is nothing to roll back")
    if before is None:
        raise InputError(
            f"No set before the published one is left in {warehouse.address}: "
            f"`rankline score{names.typed}` publishes another"
        )
    look(before)
    table = lock.claim(names.previous_set, lock.name(_GOING_BACK))
    try:
        lock.move(EXCHANGE, table, names.sets)
    except ConnectionLostError:
        # The statement may have succeeded. Rename the table, so that a late statement fails.
        with suppress(QueryError, LockLostError):
            lock.claim(table, lock.name(_GOING_BACK))
        published = head(warehouse, names.sets)
        if published is None or published.at_ms != before.at_ms:
            tidy(warehouse, keep, lock)
            raise
    # If a job stops before this line, `tidy` of the next job completes the rollback.
    log_event(warehouse, "rolled back", replace(current, table=current.kept_name), note=f"to {before.kept_name}")
    published = head(warehouse, names.sets)
    if (published is None or published.at_ms != before.at_ms) and not lock.held:
        raise LockLostError(
            f"The set {before.kept_name} was published again, and another job has published over it since: "
            "`rankline diff` compares the two"
        )
    tidy_after(warehouse, keep, lock)
    return current, before
