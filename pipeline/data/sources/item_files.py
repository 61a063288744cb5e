"""CSV files of items: titles, genres and tags (``--items``)."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.data.id_map import MAX_ID_LENGTH
from pipeline.data.sources.columns import item_column
from pipeline.data.sources.warehouse import QueryColumns, genres_in
from pipeline.errors import BadRowsError, InputError, MissingColumnsError

__all__ = ["read_item_files"]

_TITLES, _GENRES, _TAGS = ("title", "name"), ("genres", "genre", "categories", "category"), ("tags", "tag")
_SERIES = ("series", "franchise", "collection")


def read_item_files(
    paths: Sequence[Path], column: str | None = None, encoding: str = "utf-8"
) -> dict[str, QueryColumns]:
    """What the files say of each item, by its id as text. Several rows of an item, in one file or several, add up.

    A file has a header, a column of item ids, and one or more of ``title``, ``genres``, ``tags`` (or ``tag``) and
    ``series``; several genres or tags of a row stand between ``|``. Cells are parted by commas, semicolons or tabs.

    Parameters
    ----------
    column : of item ids; default, by its usual names

    Raises
    ------
    InputError, MissingColumnsError, BadRowsError
        For a file that can't be read, without such columns, or with a row that has no id.
    """
    titles: dict[str, str] = {}
    genres: dict[str, dict[str, None]] = {}
    tags: dict[str, dict[str, None]] = {}
    series: dict[str, str] = {}
    for path in paths:
        for item, cells in _rows(path, column, encoding):
            if title := cells.get("title", ""):
                titles[item] = title
            if one := cells.get("series", ""):
                series[item] = one
            for name, found in (("genres", genres), ("tags", tags)):
                found.setdefault(item, {}).update(dict.fromkeys(genres_in(cells.get(name, ""))))
    items = dict.fromkeys([*titles, *genres, *tags])
    return {
        item: QueryColumns(
            titles.get(item, ""), tuple(genres.get(item, ())), tuple(tags.get(item, ())), series.get(item, "")
        )
        for item in items
    }


def _rows(path: Path, column: str | None, encoding: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Each row's item, and its title, genres and tags by these names."""
    try:
        with path.open(encoding="utf-8-sig" if encoding == "utf-8" else encoding, newline="") as file:
            first = file.readline()
            file.seek(0)
            reader = csv.reader(file, delimiter=max(",;\t", key=first.count), strict=True)
            header = [name.strip() for name in next(reader, [])]
            position = _positions(header, column, path)
            for row in filter(None, reader):
                where = f"{path}, line {reader.line_num}"
                if len(row) != len(header):
                    raise BadRowsError(f"{where} has {len(row)} cells, and the header {len(header)}")
                item = row[position["item"]].strip()
                if not 0 < len(item) <= MAX_ID_LENGTH:
                    raise BadRowsError(f"{where}: an item id has 1 to {MAX_ID_LENGTH} characters, this one {len(item)}")
                yield item, {name: row[j].strip() for name, j in position.items() if name != "item"}
    except OSError as error:
        raise InputError(f"{path} can't be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not {encoding}: name its --encoding") from None
    except csv.Error as error:
        raise InputError(f"{path} is no CSV file (line {reader.line_num}: {error})") from None


def _positions(header: list[str], column: str | None, path: Path) -> dict[str, int]:
    lower = [name.lower() for name in header]
    position = {"item": item_column(header, column, str(path))}
    for name, spellings in (("title", _TITLES), ("genres", _GENRES), ("tags", _TAGS), ("series", _SERIES)):
        if found := next((spelling for spelling in spellings if spelling in lower), None):
            position[name] = lower.index(found)
    if len(position) == 1:
        raise MissingColumnsError(["genres"], header, str(path))
    return position
