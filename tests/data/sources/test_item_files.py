"""Files of items: titles, genres and tags."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.data.sources.item_files import read_item_files
from pipeline.data.sources.warehouse import QueryColumns
from pipeline.errors import BadRowsError, InputError, MissingColumnsError


def test_rows_and_files_add_up(tmp_path: Path) -> None:
    movies, tags = tmp_path / "movies.csv", tmp_path / "tags.csv"
    movies.write_text('movieId,title,genres\n1,"Toy Story, again",Comedy|Fantasy\n2,Heat,(no genres listed)\n')
    tags.write_text("userId;movieId;tag\n7;1;funny\n8;1;toys\n8;3;new\n")
    assert read_item_files([movies, tags]) == {
        "1": QueryColumns("Toy Story, again", ("Comedy", "Fantasy"), ("funny", "toys")),
        "2": QueryColumns("Heat", ()),
        "3": QueryColumns("", (), ("new",)),
    }


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        (b"title,genres\nHeat,Crime\n", MissingColumnsError, "item_id"),
        (b"item_id,year\n1,1995\n", MissingColumnsError, "genres"),
        (b"item_id,genres\n1\n", BadRowsError, "line 2 has 1 cells, and the header 2"),
        (b"item_id,genres\n ,Crime\n", BadRowsError, "line 2: an item id has 1 to 256 characters, this one 0"),
        (b"item_id,genres\n1,\xff\n", InputError, "is not utf-8: name its --encoding"),
        (b'item_id,genres\n1,"Crime\n', InputError, "is no CSV file"),
    ],
)
def test_what_can_not_be_read_is_named(tmp_path: Path, text: bytes, error: type[InputError], words: str) -> None:
    path = tmp_path / "items.csv"
    path.write_bytes(text)
    with pytest.raises(error, match=words):
        read_item_files([path])
    with pytest.raises(InputError, match="can't be read"):
        read_item_files([tmp_path / "none.csv"])
