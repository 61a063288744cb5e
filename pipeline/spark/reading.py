"""Reads Parquet on executors: ids become dense integers once, and all interactions lie sorted on shared storage."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.id_map import IdMap, distinct
from pipeline.data.interactions import Interactions
from pipeline.data.sources.blocks import ReadResult
from pipeline.data.sources.builder import SAMPLE_ROWS, Columns, OnBadRows
from pipeline.data.sources.file_names import files_of, format_of
from pipeline.data.sources.files import FileForm, read_file
from pipeline.errors import InputError
from pipeline.models.solvers.block_engine import Tasks
from pipeline.models.solvers.block_steps import FileArray
from pipeline.spark.part_files import (
    COLUMNS,
    Part,
    PartRead,
    Range,
    RangeFiles,
    groups_of,
    order_range,
    read_part,
    spread_part,
)

__all__ = ["read_on"]

_PART, _RANGE = 1 << 21, 1 << 21  # rows that a task reads, and that a task sorts, at a time


def read_on(
    tasks: Tasks,
    folder: Path,
    paths: Sequence[Path],
    columns: Columns,
    format: str | None,
    on_bad_rows: OnBadRows,
    progress: Callable[[int], None] | None,
    form: FileForm,
) -> ReadResult:
    """As `read_file`; the interactions are sorted, and their columns are mapped from files in `folder`.

    Only Parquet is read in parts. Files of text are read here: what an id or a time means may depend on the last line.
    """
    files = files_of(paths)
    if not all(file.is_file() and format_of(file, format) == "parquet" for file in files):
        return read_file(paths, columns, format, on_bad_rows, progress, form=form)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    parts: list[Part] = []
    for file in files:
        for groups, first, _ in groups_of(file, _PART):
            parts.append(Part(len(parts), str(file), groups, first, len(files) > 1))
    reads: list[PartRead] = tasks.run(partial(read_part, str(folder), columns, on_bad_rows), parts)
    n_rows = sum(read.n_rows for read in reads)
    if not n_rows:
        raise InputError(f"{', '.join(map(str, paths))} has no rows: it needs at least one interaction")
    if progress is not None:
        progress(n_rows)
    _check_alike(parts, reads)
    numbers = [part.number for part, read in zip(parts, reads, strict=True) if any(read.kinds)]
    interactions = _sorted(tasks, folder, numbers, times=any(read.times for read in reads))
    bad = [row for read in reads for row in read.bad_rows][:SAMPLE_ROWS]
    chosen = next((read.columns for read in reads if read.columns is not None), None)
    notes = tuple(dict.fromkeys(note for read in reads for note in read.notes))
    return ReadResult(interactions, n_rows, sum(read.n_bad for read in reads), bad, chosen, notes)


def _check_alike(parts: Sequence[Part], reads: Sequence[PartRead]) -> None:
    """Raise InputError where parts have ids of two kinds, or other columns."""
    first: tuple[Part, PartRead] | None = None
    for part, read in zip(parts, reads, strict=True):
        if not any(read.kinds):
            continue
        if first is None:
            first = part, read
        before, known = first
        for side, kind, other in zip(("user", "item"), known.kinds, read.kinds, strict=True):
            if kind != other:
                words = {"int": "integers", "str": "text"}
                name = read.columns.names[side] if read.columns else side
                raise InputError(
                    f"Column {name!r} holds {words[kind]} in {before.file} and {words[other]} in {part.file}: "
                    "make its ids all the same"
                )
        if known.columns and read.columns and known.columns.names != read.columns.names:
            raise InputError(
                f"{part.file}: Columns change on the way: {list(known.columns.names.values())} in {before.file}, "
                f"{list(read.columns.names.values())} here. Give every file the same columns."
            )


def _sorted(tasks: Tasks, folder: Path, numbers: Sequence[int], *, times: bool) -> Interactions:
    """All interactions of the parts, by user, item and time."""
    ids = {side: _all_ids(folder, numbers, side) for side in ("users", "items")}
    for side, table in ids.items():
        np.save(folder / f"{side}.npy", table.values, allow_pickle=False)
    rows = np.zeros(len(ids["users"]), np.int64)
    for number in numbers:
        with np.load(folder / f"part-{number}.npz", allow_pickle=False) as part:
            rows[np.searchsorted(ids["users"].values, part["user_ids"])] += part["rows"]
    ends = np.cumsum(rows)
    n = int(ends[-1]) if ends.size else 0
    ranges = max(1, -(-n // _RANGE), min(tasks.slots, n // (_RANGE // 16)))
    cuts = np.unique(np.concatenate([[0], np.searchsorted(ends, n * np.arange(1, ranges) / ranges), [rows.size]]))
    starts = tasks.run(partial(spread_part, str(folder), cuts.astype(np.int64)), numbers)
    names = [name for name in COLUMNS if times or name != "at"]
    room = {name: FileArray.room(folder / name, np.broadcast_to(np.zeros(1, COLUMNS[name]), (n,))) for name in names}
    at = np.append(0, ends)[cuts]
    todo = [Range(i, int(cuts[i]), int(cuts[i + 1]), int(at[i])) for i in range(cuts.size - 1)]
    tasks.run(partial(order_range, RangeFiles(str(folder), list(zip(numbers, starts, strict=True)), room)), todo)
    for number in numbers:
        for path in folder.glob(f"part-{number}.*"):
            path.unlink()
    mapped: dict[str, NDArray[Any]] = {name: file.map() for name, file in room.items()}
    when = mapped["at"].view("datetime64[ms]") if times else None
    return Interactions(mapped["users"], mapped["items"], mapped["scores"], ids["users"], ids["items"], when)


def _all_ids(folder: Path, numbers: Sequence[int], side: str) -> IdMap:
    """The ids of all parts, sorted, each once."""
    known: NDArray[Any] | None = None
    for number in numbers:
        with np.load(folder / f"part-{number}.npz", allow_pickle=False) as part:
            own = part[f"{side[:-1]}_ids"]
        known = own if known is None else distinct(known, own)
    return IdMap(np.empty(0, np.int64) if known is None else known)
