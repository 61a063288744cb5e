"""Titles and genres of a model's items, where its training data has them."""

from __future__ import annotations

from pipeline.data.id_map import IdMap
from pipeline.data.sources.warehouse import describe
from pipeline.errors import RanklineError
from pipeline.jobs.inputs import LoadedInput, open_warehouse
from pipeline.models.saved_model import ItemTexts
from pipeline.runtime.progress import Reporter
from pipeline.settings import Settings
from pipeline.warehouse.sql import load

__all__ = ["item_texts"]


def item_texts(items: IdMap, chosen: LoadedInput, settings: Settings, reporter: Reporter) -> ItemTexts | None:
    """Read them from the warehouse if the training read its mart; else return None.

    The ids of a file or of the user's own query may mean other items in the warehouse. If the warehouse fails, the
    training continues without titles.
    """
    mart = load("queries/interactions").name
    if chosen.source != "warehouse" or chosen.query is None or chosen.query.name != mart:
        return None
    try:
        with open_warehouse(settings) as warehouse:
            known = describe(warehouse, items.values.tolist())
    except RanklineError as error:
        reporter.say(f"no titles in items.npz: {error}")
        return None
    titles = {item: text.title for item, text in known.items() if text.title}
    return ItemTexts(titles, {item: text.genres for item, text in known.items() if text.genres})
