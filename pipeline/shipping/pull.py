"""Pulling: what other hosts shipped, and the version that is served has not read, comes into this host's log.

So a user who is routed to another host, after one was added or has failed, gets lists that know what they did since the
training. The rows are found by the tags that shipping gives them; rows of forgotten users are deleted with their tags.

Who was forgotten on another host is forgotten here, too: whatever is known of them here, the row of a served model too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from pipeline.interaction_log import Columns, InteractionLog, PulledRow
from pipeline.interaction_log.columns import as_id
from pipeline.models.model_files import load_ids
from pipeline.publishing.suppressed_users import SuppressedUsers, read_suppressed_users
from pipeline.shipping.ledger import watermark
from pipeline.shipping.ship import RATINGS, WATCHED, shipping_lock
from pipeline.warehouse import Warehouse, sql

__all__ = ["Puller"]

_MOST = 10_000  # interactions asked for at once
_AT_ONCE = 10  # such questions in one visit, one for each log at least: what is left comes with the next
_TOGETHER = 1_000  # interactions that one transaction stores, as requests that write wait for it


class Puller:
    """Pulls into one log. It remembers what it has looked for, so that it looks only where something has changed."""

    def __init__(self) -> None:
        self._looked_for: tuple[SuppressedUsers, frozenset[Path], int] = SuppressedUsers({}), frozenset(), 0

    def pull(
        self,
        warehouse: Warehouse,
        log: InteractionLog,
        served: Collection[Mapping[str, int]],
        models: Collection[Path] = (),
        say: Callable[[str], None] = lambda _: None,
        most: int = _MOST,
        at_once: int = _AT_ONCE,
    ) -> int:
        """Pull what is new, and forget; returns how many interactions came. It may be stopped anywhere and run again.

        Nothing is pulled from an embedded warehouse, whose only host this is, where nothing is served, and where the
        raw tables lack the tags.

        Parameters
        ----------
        log : opened by the caller for each visit
        served : log id → what the training has read, of each version that is served now
        models : the folders of these versions
        most, at_once : interactions of a question, and questions in one call

        Raises InputError, ArtifactError, LockedError, InteractionLogError, ServerError.
        """
        if warehouse.embedded or not served:
            return 0
        tagged = {f"raw.{row['name']}" for row in warehouse.rows(sql.load("queries/tagged").text)}
        with shipping_lock(log.path, say):  # forgetting on this host waits, or is done
            # Read first: rows up to the ledger's last number are all there.
            arrived = watermark(warehouse)
            arrived.pop(log.log_id, None)
            self._forget(log, read_suppressed_users(warehouse), models)
            added = 0
            if not tagged.issuperset((RATINGS, WATCHED)):
                return added
            for _ in range(max(1, at_once // max(1, len(arrived)))):
                for log_id, last in arrived.items():
                    covered = min(int(read.get(log_id, 0)) for read in served)
                    if (after := log.pull_after(log_id, covered)) < last:
                        added += self._pull(warehouse, log, log_id, after, min(last, after + most))
            return added

    def _pull(self, warehouse: Warehouse, log: InteractionLog, log_id: str, after: int, last: int) -> int:
        found = warehouse.rows(sql.load("queries/of_other_log").text, {"log_id": log_id, "after": after, "last": last})
        # Read after the rows: whoever was forgotten before they were read is in it.
        suppressed = read_suppressed_users(warehouse)
        columns = log.columns  # as the last shipment has found them
        rows = [row for given in found if (row := _row(given, columns)) is not None and row.user_id not in suppressed]
        added = 0
        while len(rows) > _TOGETHER:
            some, rows = rows[:_TOGETHER], rows[_TOGETHER:]
            added += log.put_pulled(log_id, after, some[-1].seq, some)
            after = some[-1].seq
        return added + log.put_pulled(log_id, after, last, rows)

    def _forget(self, log: InteractionLog, suppressed: SuppressedUsers, models: Collection[Path]) -> None:
        """Forget whom another host has forgotten since, of those in the log and in the models."""
        # What comes later of somebody who was forgotten is found out when it is shipped; preferences are not.
        looked_for = suppressed, frozenset(models), log.newest_preference()
        if suppressed and looked_for != self._looked_for:
            known = {user for user in log.users() if user in suppressed}
            for folder in models:
                ids = load_ids(folder)[0].values
                known.update(ids[suppressed.mask(ids)].tolist())
            for user in known - log.forgotten_among(known):
                log.forget(user)
        self._looked_for = looked_for


def _row(given: Mapping[str, Any], columns: Columns) -> PulledRow | None:
    """None for an id that no log holds: somebody else wrote the row."""
    try:
        user, item = as_id("user", given["user_id"], columns.user), as_id("item", given["item_id"], columns.item)
    except ValueError:
        return None
    return PulledRow(int(given["seq"]), user, item, given["rating"], int(given["at_ms"]))
