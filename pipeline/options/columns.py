"""Which columns hold what, how their values are read, and how files are written: of every source alike."""

from __future__ import annotations

import codecs
import datetime as dt
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pipeline.errors import UsageError
from pipeline.options.base import Options, Rule, Several, option

__all__ = ["FileFormat", "OnBadRows", "OnNegative", "RowOptions", "as_event_weights", "refuse_addresses"]

FileFormat = Literal["csv", "parquet", "json"]
OnBadRows = Literal["error", "drop"]
OnNegative = Literal["error", "drop", "zero"]
_UNITS = ("seconds", "milliseconds", "microseconds", "nanoseconds", "days")
_TIME_FORMAT = f"a pattern such as %d.%m.%Y, or one of {', '.join(_UNITS)}"

# In docs/options.md, around the known names of a column (pipeline.data.sources.columns has them).
_KNOWN, _CASE = "Known names:", "Upper and lower case are alike, and so are - and _."
_SEPARATOR = r"tab|space|\\t|[^A-Za-z0-9\"\r\n]{1,3}"
_WEIGHT = re.compile(r"\s*(.+?)\s*=\s*([0-9]+\.?[0-9]*|\.[0-9]+)\s*")
# A path has made one slash of two.
_ADDRESS = re.compile(r"(?:^|/)([A-Za-z][A-Za-z0-9+.-]+):/")


def _is_encoding(text: str) -> bool:
    try:
        codecs.lookup(text)
        "".encode(text)  # refuses those that are no encodings of text
    except LookupError:
        return False
    return True


def _is_time_format(text: str) -> bool:
    """Whether it is a unit, or a pattern that strptime takes."""
    if text in _UNITS:
        return True
    try:
        dt.datetime.strptime(dt.datetime(2020, 10, 20).strftime(text), text)
    except ValueError:
        return False
    return "%" in text


def as_event_weights(text: str) -> dict[str, float]:
    """The weight of each kind of event: ``view=1,cart=3`` → {"view": 1.0, "cart": 3.0}. Raises ValueError."""
    weights: dict[str, float] = {}
    for part in text.split(","):
        fits = _WEIGHT.fullmatch(part)
        if fits is None or fits[1] in weights or not math.isfinite(float(fits[2])):
            raise ValueError(part)
        weights[fits[1]] = float(fits[2])
    return weights


def _are_weights(text: str) -> bool:
    try:
        as_event_weights(text)
    except ValueError:
        return False
    return True


def refuse_addresses(name: str, paths: Path | tuple[Path, ...] | None) -> None:
    """Raise UsageError where a path is an address of the internet or of an object store, which may hold a secret."""
    for path in paths if isinstance(paths, tuple) else [paths]:
        if path is not None and (scheme := _ADDRESS.search(str(path))):
            raise UsageError(
                f"--{name} takes files of this machine, and {scheme[1]}://… is an address: fetch the file first, or "
                "pipe it in (curl ADDRESS | rankline … --input - --format csv)"
            )


@dataclass(frozen=True)
class RowOptions(Options):
    """Which columns hold what, how their values are read, and how files are written. Raises UsageError."""

    format: FileFormat | None = option(None, "Format of the files. Default: by the extension.")
    items: Annotated[Path, Several()] | None = option(
        None,
        "A CSV of items: item_id, and title, genres or tags (a|b). Default: raw.movies.",
        details="For titles of files of interactions, and for --cold-items. It may be given several times: a file of "
        "titles and genres, and one with a row for each tag.",
        advanced=True,
    )
    user_column: str | None = option(
        None,
        "Column of user ids. Default: user_id, userId, …",
        section="columns",
        details=f"{_KNOWN} user_id; else userid, user, uid, customer_id, customerid. {_CASE}",
    )
    item_column: str | None = option(
        None,
        "Column of item ids. Default: item_id, movieId, …",
        section="columns",
        details=f"{_KNOWN} item_id; else itemid, item, movie_id, movieid, movie, product_id, productid, "
        f"product. {_CASE} Of a query, user_id and item_id alone.",
    )
    rating_column: str | None = option(
        None,
        "Column of scores, or off. Default: rating, score, …",
        section="columns",
        details=f"{_KNOWN} rating, score; else interaction_score, interactionscore, ratings, stars. {_CASE} "
        "In files also weight, plays, playcount, listens, count, frequency, quantity. "
        "Without such a column each row counts 1.0.",
    )
    timestamp_column: str | None = option(
        None,
        "Column of times, or off. Default: timestamp, at, …",
        section="columns",
        details=f"{_KNOWN} timestamp, at; else last_interaction_at, lastinteractionat, rated_at, ratedat, watched_at, "
        f"watchedat, event_time. {_CASE} Without such a column the split is random.",
    )
    time_format: (
        Annotated[str, Rule(_is_time_format, f"a pattern such as %d.%m.%Y, or one of {', '.join(_UNITS)}")] | None
    ) = option(
        None,
        "How times are written, e.g. %d.%m.%Y; or a unit.",
        section="columns",
        details=f"Units: {', '.join(_UNITS)}. Default: ISO 8601, or seconds, milliseconds and so on since 1970, by "
        "their size.",
        advanced=True,
    )
    event_column: str | None = option(
        None,
        "Column of kinds of events, for --event-weights.",
        section="columns",
        details=f"{_KNOWN} event; else event_type, eventtype, event_name, behavior, behaviour, action. {_CASE}",
        advanced=True,
    )
    event_weights: Annotated[str, Rule(_are_weights, "kinds and weights such as view=1,cart=3,purchase=5")] | None = (
        option(
            None,
            "Score by kind of event: view=1,cart=3,purchase=5.",
            section="columns",
            details="It stands for a column of scores. An event of another kind is a bad row.",
            advanced=True,
        )
    )
    separator: (
        Annotated[str, Rule(re.compile(_SEPARATOR).fullmatch, "tab, space, or up to three marks such as |")] | None
    ) = option(
        None,
        "Of a CSV. Default: by its first line.",
        details="Known by themselves: comma, semicolon, tab, | and ::.",
        advanced=True,
    )
    header: Annotated[str, Rule(bool, "auto, off, or names of columns")] = option(
        "auto",
        "auto, off, or the names of the columns of a CSV without a header.",
        details="off: the first line is a row, as it is where names are given. With auto, a first line of "
        "user, item, rating and time as numbers is a row.",
        advanced=True,
    )
    encoding: Annotated[str, Rule(_is_encoding, "the name of an encoding such as latin-1")] = option(
        "utf-8", "Of CSV and JSON: latin-1, cp1252, utf-16, …", advanced=True
    )
    on_bad_rows: OnBadRows = option(
        "error", "error: stop and show the first five; drop: leave out, count, keep a sample."
    )
    on_negative: OnNegative | None = option(
        None,
        "Scores below 0. zero: seen with score 0; drop: not seen.",
        details="Default: as --on-bad-rows.",
        advanced=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("user", "item"):
            if getattr(self, f"{name}_column") == "off":
                raise UsageError(f"--{name}-column can't be off: every interaction has a {name}")
        if self.event_column is not None and self.event_weights is None:
            raise UsageError("--event-column needs --event-weights, such as view=1,cart=3,purchase=5")
        if self.event_weights is not None and self.rating_column not in (None, "off"):
            raise UsageError("--event-weights and --rating-column both give the score: leave one of them out")
