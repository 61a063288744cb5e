"""Titles, genres and tags of items: from the files of --items, else from the warehouse that the training read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipeline.data.id_map import IdMap
from pipeline.data.sources.item_files import read_item_files
from pipeline.data.sources.warehouse import QueryColumns, catalogue, describe
from pipeline.errors import InputError, RanklineError
from pipeline.jobs.inputs import LoadedInput, open_warehouse
from pipeline.models.item_snapshot import MOST_OTHERS
from pipeline.models.saved_model import ItemTexts
from pipeline.options import RowOptions
from pipeline.runtime.progress import Reporter
from pipeline.settings import Settings
from pipeline.warehouse.sql import load

__all__ = ["catalogue_texts", "item_texts", "texts_of_files"]


def item_texts(items: IdMap, chosen: LoadedInput, settings: Settings, reporter: Reporter) -> ItemTexts | None:
    """Those that were read before; else read them from the warehouse if the training read its mart; else None.

    There may be some of items that had no interaction, too.

    The ids of a file or of the user's own query may mean other items in the warehouse. If the warehouse fails, the
    training continues without titles.
    """
    if chosen.texts is not None:
        return chosen.texts
    if not _is_mart(chosen):
        return None
    try:
        with open_warehouse(settings) as warehouse:
            return _texts(describe(warehouse, items.values.tolist(), MOST_OTHERS))
    except RanklineError as error:
        reporter.say(f"no titles in items.npz: {error}")
        return None


def catalogue_texts(chosen: LoadedInput, read_spec: RowOptions, settings: Settings) -> ItemTexts:
    """Of all items, with and without interactions. Raises InputError where nothing says them."""
    if (texts := texts_of_files(read_spec)) is not None:
        return texts
    if not _is_mart(chosen):
        raise InputError(
            "--cold-items goes by genres and tags, which these interactions come without: give a file of items with "
            "--items (its columns: item_id, genres, title, tags)"
        )
    with open_warehouse(settings) as warehouse:
        return _texts(catalogue(warehouse))


def texts_of_files(read_spec: RowOptions) -> ItemTexts | None:
    """Of the files of --items; None without. Raises as `read_item_files`."""
    if read_spec.items is None:
        return None
    paths = (read_spec.items,) if isinstance(read_spec.items, Path) else tuple(read_spec.items)
    return _texts(read_item_files(paths, read_spec.item_column, read_spec.encoding))


def _is_mart(chosen: LoadedInput) -> bool:
    mart = load("queries/interactions").name
    return chosen.source == "warehouse" and chosen.query is not None and chosen.query.name == mart


def _texts(known: Mapping[str, QueryColumns]) -> ItemTexts:
    return ItemTexts(
        {item: text.title for item, text in known.items() if text.title},
        {item: text.genres for item, text in known.items() if text.genres},
        {item: text.tags for item, text in known.items() if text.tags},
        {item: text.series for item, text in known.items() if text.series},
    )
