"""The files of a published evaluation: training and test interactions, and the negatives of each test pair.

Beside the forms of `read_file`, that of the public leave-one-out files: tab-separated ``user item rating time``
(or ``user item rating``) without a header line. It is told by its first line: no column is named ``5``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.ids import IdMap
from pipeline.interactions import Interactions
from pipeline.sampled import Negatives
from pipeline.sources.blocks import Columns, OnBadRows, Read
from pipeline.sources.columns import find_columns
from pipeline.sources.files import read_file
from pipeline.sources.lines import open_bytes

__all__ = ["Files", "as_one_kind", "read_rows"]

_NAMES = ("user_id", "item_id", "rating", "timestamp")
_NUMBER = re.compile(r"\s*[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\s*")
_LONGEST_LINE = 1 << 16
_TEXT_FORMATS = (None, "csv")
_OTHER_EXTENSIONS = (".json", ".jsonl", ".ndjson", ".parquet", ".pq")
_PROTOCOL_EXTENSION = ".rating"


def read_rows(
    path: str | os.PathLike[str],
    columns: Columns = Columns(),  # noqa: B008  frozen
    format: str | None = None,
    on_bad_rows: OnBadRows = "error",
    progress: Callable[[int], None] | None = None,
    *,
    option: str = "--input",
) -> Read:
    """As `read_file`, and a file without a header; `columns` are of files that have one."""
    path = Path(path)
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    protocol = suffixes[-1:] == [_PROTOCOL_EXTENSION]
    header = None
    if format in _TEXT_FORMATS and not (format is None and suffixes[-1:] and suffixes[-1] in _OTHER_EXTENSIONS):
        header = _header_for(path, columns, protocol)
    if header is not None:
        return read_file(path, Columns(), "csv", on_bad_rows, progress, header=header, option=option)
    if protocol and format is None:
        format = "csv"
    return read_file(path, columns, format, on_bad_rows, progress, option=option)


def _header_for(path: Path, columns: Columns, protocol: bool) -> bytes | None:
    """The header line that the file lacks; None where it has one, or can't be read (`read_file` says why)."""
    try:
        with open_bytes(path) as stream:
            first = stream.readline(_LONGEST_LINE)
    except OSError:
        return None
    fields = first.removeprefix(b"\xef\xbb\xbf").decode(errors="replace").rstrip("\r\n").split("\t")
    numbers = [_NUMBER.fullmatch(field) is not None for field in fields[2:]]
    if len(fields) in (3, 4) and all(numbers):
        return _header(len(fields))
    if protocol and first.strip():
        # What has this extension has no header: a first line that is no row of it is a bad row, not names.
        try:
            find_columns([name.strip() for name in fields], columns)
        except InputError:
            return _header(len(_NAMES))
    return None


def _header(n: int) -> bytes:
    return "\t".join(_NAMES[:n]).encode() + b"\n"


class Files(NamedTuple):
    """The three, over ids of the same kinds."""

    train: Interactions
    test: Interactions
    negatives: Negatives | None


def as_one_kind(train: Interactions, test: Interactions, negatives: Negatives | None = None) -> Files:
    """The three over ids of the same kinds: where one has text, the integers of the others become text.

    A file whose ids are all canonical integers is read as integers, whatever another file holds: ``17`` is
    the same user in both.
    """
    users = [train.user_ids.values, test.user_ids.values]
    items = [train.item_ids.values, test.item_ids.values]
    if negatives is not None:
        users.append(negatives.users)
        items += [negatives.items, negatives.negatives]
    if any(_kind(ids) == "str" for ids in users):
        train, test = (_users_as_text(x) for x in (train, test))
        negatives = negatives and replace(negatives, users=negatives.users.astype(str))
    if any(_kind(ids) == "str" for ids in items):
        train, test = (_items_as_text(x) for x in (train, test))
        negatives = negatives and replace(
            negatives, items=negatives.items.astype(str), negatives=negatives.negatives.astype(str)
        )
    return Files(train, test, negatives)


def _kind(ids: NDArray[Any]) -> str:
    return "str" if ids.dtype.kind == "U" else "int"


def _users_as_text(x: Interactions) -> Interactions:
    codes, ids = _as_text(x.users, x.user_ids)
    return replace(x, users=codes, user_ids=ids)


def _items_as_text(x: Interactions) -> Interactions:
    codes, ids = _as_text(x.items, x.item_ids)
    return replace(x, items=codes, item_ids=ids)


def _as_text(codes: NDArray[np.int32], ids: IdMap) -> tuple[NDArray[np.int32], IdMap]:
    """Ids in the order of text, and the codes into them."""
    if ids.kind == "str":
        return codes, ids
    texts = ids.values.astype(str)
    order = np.argsort(texts)
    place = np.empty(order.size, np.int32)
    place[order] = np.arange(order.size, dtype=np.int32)
    return place[codes], IdMap(texts[order])
