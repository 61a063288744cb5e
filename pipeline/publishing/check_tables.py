"""What a staged table is checked against, loaded beside it: what is seen, and a model's users and items."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.errors import ConnectionLostError, QueryError
from pipeline.models.saved_model import SavedModel
from pipeline.ranking.genres import ItemGenres
from pipeline.ranking.promotions import Promotion
from pipeline.warehouse import Warehouse, sql
from pipeline.warehouse.column_types import seen_ids

__all__ = ["CLICKHOUSE_TYPE", "CheckTables", "Pairs", "Ranked"]

CLICKHOUSE_TYPE = {"int": "Int64", "str": "String"}
# Bounds the memory of a block: users, and the items they have seen (more only where one user alone has).
_USERS_A_BLOCK, _SEEN_A_BLOCK = 65536, 2**22
# A stream that breaks more often than this has something wrong with it.
_MOST_BREAKS = 20

Insert = Callable[[str, pa.Table], None]
Pairs = tuple[NDArray[Any], NDArray[Any]]
# Which of some ids (n,) are users whom a model ranks.
Ranked = Callable[[NDArray[Any]], NDArray[np.bool_]]


class CheckTables:
    """Three tables beside a staged one, under its name and ``_seen``, ``_users``, ``_items``; they go with it.

    Parameters
    ----------
    insert : append Arrow rows to a table of analytics, once, whatever the connection does
    """

    def __init__(self, warehouse: Warehouse, staged: str, user_kind: str, item_kind: str, insert: Insert) -> None:
        self._warehouse = warehouse
        self._insert = insert
        self._user_kind, self._item_kind = user_kind, item_kind
        self.seen, self.model_users, self.model_items = (f"{staged}_{name}" for name in ("seen", "users", "items"))
        self._made: list[str] = []

    @property
    def names(self) -> dict[str, str]:
        """Parameters of the checks."""
        return {"seen": self.seen, "model_users": self.model_users, "model_items": self.model_items}

    def _make(self, statement: str, table: str) -> None:
        if table not in self._made:
            types = {"user_type": CLICKHOUSE_TYPE[self._user_kind], "item_type": CLICKHOUSE_TYPE[self._item_kind]}
            self._made.append(table)
            self._warehouse.ddl(sql.load(statement).text, {"table": table, **types})

    def seen_now(self, query: sql.Sql, also: Callable[[], Iterable[Pairs]] = tuple) -> Iterator[Pairs]:
        """Blocks of (user ids, item ids) that the query has by now, and those of `also`, in the order of user ids.

        They are kept first, and read from there: the checks look at what scoring left out, and what
        comes in meanwhile is no fault. Raises QueryError where they did not all arrive, at the end.
        """
        names: dict[str, Any] = {"seen": self.seen}
        self._warehouse.retry("keeping what is seen", lambda: self._keep_seen(query, also))
        expected = self._warehouse.rows("SELECT count() AS n FROM analytics.{seen:Identifier}", names)[0]["n"]
        arrived, breaks = 0, 0
        # The table is this job's own, and stays as it is: a stream that breaks goes on where it was.
        ordered = "SELECT user_id, item_id FROM analytics.{seen:Identifier} ORDER BY user_id, item_id OFFSET {n:UInt64}"
        while arrived < expected:
            before = arrived
            try:
                # It is open while all users are scored, which may take longer than any one query should.
                with self._warehouse.blocks(ordered, {**names, "n": arrived}, **self._warehouse.unbounded) as blocks:
                    for block in blocks:
                        arrived += block.num_rows
                        yield _ids(block.column(0), self._user_kind), _ids(block.column(1), self._item_kind)
            except ConnectionLostError:
                breaks += 1
                if breaks > _MOST_BREAKS or arrived == before:
                    raise
                continue
            if arrived == before:
                break
        if arrived != expected:
            raise QueryError(
                f"{arrived} of {expected} seen items arrived from {self._warehouse.address}: the read was cut short; "
                "run the command again"
            )

    def _keep_seen(self, query: sql.Sql, also: Callable[[], Iterable[Pairs]]) -> None:
        """Into a new table each time: one that an earlier try may be writing to still is none of ours."""
        self._warehouse.command("DROP TABLE IF EXISTS analytics.{seen:Identifier}", {"seen": self.seen})
        self._made = [table for table in self._made if table != self.seen]
        self._make("ddl/staged_seen", self.seen)
        user, item = seen_ids(self._warehouse, query, self._user_kind, self._item_kind)
        self._warehouse.command(sql.insert_seen(query, user, item).text, {"seen": self.seen})
        for users, items in also():
            self._insert(self.seen, pa.table({"user_id": pa.array(users), "item_id": pa.array(items)}))

    def load_model(
        self,
        model: SavedModel,
        hidden: NDArray[np.bool_] | None = None,
        genres: ItemGenres | None = None,
        promotions: Sequence[Promotion] = (),
        ranked: Ranked | None = None,
    ) -> None:
        """The model's users with what its artifact has as seen, and its items, in blocks of bounded memory.

        hidden : (n_items,) which items a rule hides; None for none
        genres : of the items, where a limit is on them
        promotions : of items
        ranked : users of other arms are left out; None: all are this model's
        """
        self._make("ddl/staged_seen", self.seen)  # empty, where no warehouse has anything to say
        self._make("ddl/staged_users", self.model_users)
        self._make("ddl/staged_items", self.model_items)
        items = model.items.values
        for first in range(0, items.size, _USERS_A_BLOCK):
            ids = items[first : first + _USERS_A_BLOCK]
            cols = np.arange(first, first + ids.size, dtype=np.uint32)
            rule = np.zeros(ids.size, np.uint8) if hidden is None else hidden[cols].astype(np.uint8)
            columns = {"item_id": pa.array(ids), "col": cols, "hidden": rule, "genres": _genres(genres, cols)}
            columns["promoted"] = _promoted(promotions, cols)
            self._insert(self.model_items, pa.table(columns))
        indptr, first, n_users = model.seen.indptr, 0, len(model.users)
        while first < n_users:
            # As many users as fit, one at least.
            fit = int(np.searchsorted(indptr, indptr[first] + _SEEN_A_BLOCK, side="right")) - 1
            last = min(max(fit, first + 1), first + _USERS_A_BLOCK, n_users)
            cols = np.asarray(model.seen.indices[indptr[first] : indptr[last]]).astype(np.uint32)
            lists = pa.LargeListArray.from_arrays(pa.array(indptr[first : last + 1] - indptr[first]), pa.array(cols))
            ids = model.users.values[first:last]
            users = pa.table({"user_id": pa.array(ids), "seen": lists})
            self._insert(self.model_users, users if ranked is None else users.filter(pa.array(ranked(ids))))
            first = last
            model.release()

    def drop(self) -> None:
        """Drop those that were made."""
        for table in self._made:
            self._warehouse.command("DROP TABLE IF EXISTS analytics.{table:Identifier}", {"table": table})


def _genres(genres: ItemGenres | None, cols: NDArray[np.uint32]) -> pa.LargeListArray:
    """The names of the genres of these items."""
    if genres is None:
        return _lists(np.zeros(0, np.intp), np.zeros(0, np.intp), (), cols.size)
    return _lists(*genres.of_items(cols.astype(np.int32)), genres.names, cols.size)


def _promoted(promotions: Sequence[Promotion], cols: NDArray[np.uint32]) -> pa.LargeListArray:
    """The sources of the promotions of these items."""
    of = [np.flatnonzero(promotion.items[cols]) for promotion in promotions]
    place = np.concatenate([*of, np.zeros(0, np.intp)])
    number = np.repeat(np.arange(len(of)), [rows.size for rows in of])
    order = np.argsort(place, kind="stable")
    return _lists(place[order], number[order], [promotion.source for promotion in promotions], cols.size)


def _lists(of: NDArray[Any], number: NDArray[Any], names: Sequence[str], n: int) -> pa.LargeListArray:
    """n lists: names[number[j]] is in list of[j], which ascends."""
    ends = np.searchsorted(of, np.arange(n + 1)).astype(np.int64)
    values = pa.array(list(names), pa.string()).take(pa.array(number.astype(np.int64)))
    return pa.LargeListArray.from_arrays(pa.array(ends), values)


def _ids(column: pa.ChunkedArray, kind: str) -> NDArray[np.generic]:
    result: NDArray[np.generic] = column.to_numpy().astype(str if kind == "str" else np.int64, copy=False)
    return result
