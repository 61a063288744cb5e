"""`DataLoader` of the reference: interactions from a file, and their user × item matrix."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np
import pandas as pd

from pipeline.compat.configuration import Constants
from pipeline.data.interactions import Interactions
from pipeline.data.matrix import to_matrix
from pipeline.data.prepare import prepare_interactions
from pipeline.data.sources.files import read_file
from pipeline.errors import InputError, MissingColumnsError

__all__ = ["DataLoader", "column_of", "interactions_of"]


class DataLoader:
    """Attributes
    ----------
    supported_formats : of files
    user_to_idx, item_to_idx : id → row and column of the last matrix
    idx_to_user, idx_to_item : the reverse
    """

    def __init__(self) -> None:
        self.supported_formats: list[str] = list(Constants.SUPPORTED_DATA_FORMATS)
        self.user_to_idx: dict[int | str, int] = {}
        self.item_to_idx: dict[int | str, int] = {}
        self.idx_to_user: dict[int, int | str] = {}
        self.idx_to_item: dict[int, int | str] = {}

    def load_user_interactions(self, filepath: str | Path, format: str = "csv") -> pd.DataFrame:
        """`user_id`, `item_id`, `rating` (1.0 where the file has none) and, if the file has times, `timestamp`.

        The usual spellings of the columns are known (docs/files.md); the frame has these names.

        Raises
        ------
        ValueError
            For a format that is not supported, for missing columns, and for bad rows.
        FileNotFoundError
        """
        if format not in self.supported_formats:
            raise InputError(f"Unsupported format: {format}. Supported formats: {self.supported_formats}")
        if not Path(filepath).exists():
            raise FileNotFoundError(f"File not found: {filepath}")
        try:
            x = read_file(filepath, format=format).interactions
        except MissingColumnsError as error:
            _missing(error.missing)
        columns = {"user_id": x.user_ids.ids(x.users), "item_id": x.item_ids.ids(x.items)}
        frame = pd.DataFrame({**columns, "rating": x.scores.astype(np.float64)})
        if x.at is not None:
            frame["timestamp"] = x.at
        return frame

    def create_user_item_matrix(
        self,
        interactions_df: pd.DataFrame,
        user_col: str = "user_id",
        item_col: str = "item_id",
        value_col: str = "rating",
    ) -> pd.DataFrame:
        """The matrix (n_users, n_items), ids ascending on both sides, 0 where there is no interaction.

        Its columns are sparse: memory grows with the interactions. Without `value_col` each counts 1. Of several of a
        user and item the latest counts, by `timestamp` if there is one, else by position.

        Raises MissingColumnsError and BadRowsError, both a ValueError.
        """
        x = interactions_of(interactions_df, user_col, item_col, value_col)
        matrix = to_matrix(prepare_interactions(x).interactions)
        users, items = matrix.users.values.tolist(), matrix.items.values.tolist()
        self.user_to_idx = {value: row for row, value in enumerate(users)}
        self.item_to_idx = {value: row for row, value in enumerate(items)}
        self.idx_to_user, self.idx_to_item = dict(enumerate(users)), dict(enumerate(items))
        frame: pd.DataFrame = pd.DataFrame.sparse.from_spmatrix(matrix.scores)  # type: ignore[attr-defined]  # not in the stubs
        frame.index, frame.columns = pd.Index(users, name=user_col), pd.Index(items, name=item_col)
        return frame


def interactions_of(
    frame: pd.DataFrame, user: str = "user_id", item: str = "item_id", value: str | None = "rating"
) -> Interactions:
    """The rows of a frame; each counts 1 where it has no column `value`.

    Raises MissingColumnsError, InputError for ids that are missing, BadRowsError for scores that are not ≥ 0.
    """
    missing = [name for name in (user, item) if name not in frame.columns]
    if missing:
        _missing(missing)
    scores = None
    if value is not None and value in frame.columns:
        scores = pd.to_numeric(frame[value], errors="coerce").to_numpy(np.float64)
    at = None
    if "timestamp" in frame.columns:
        at = pd.to_datetime(frame["timestamp"]).dt.tz_localize(None).to_numpy("datetime64[ms]")
    return Interactions.of(column_of(frame, user), column_of(frame, item), scores, at)


def column_of(frame: pd.DataFrame, name: str) -> Sequence[int | str]:
    """A column of ids as Python's own numbers and texts."""
    values: list[int | str] = frame[name].tolist()
    return values


def _missing(names: Sequence[str]) -> NoReturn:
    """Raise with the words of the reference, to the letter."""
    error = MissingColumnsError(names, ())
    error.args = (f"Missing required columns: {list(names)}",)
    raise error from None
