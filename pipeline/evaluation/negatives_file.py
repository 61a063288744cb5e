"""The public leave-one-out protocol's negatives file: a line a user, ``(user,item)``, tab, item, tab, item, …"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from pipeline.data.id_map import as_ids
from pipeline.errors import InputError
from pipeline.evaluation.sampled_negatives import Negatives

__all__ = ["read_negatives"]

_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,17}")
_PAIR = re.compile(r"\(\s*([^,()\s]+)\s*,\s*([^,()\s]+)\s*\)")


def read_negatives(path: str | Path) -> Negatives:
    """Pairs and the items that each is ranked among; ids are integers where all of a column are, else text.

    Raises
    ------
    InputError
        Where the file can't be read, or a line is not of this form, naming the line.
    """
    path = Path(path)
    users: list[str] = []
    items: list[str] = []
    negatives: list[str] = []
    start = [0]
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                first, *others = line.rstrip("\r\n").rstrip("\t").split("\t")
                pair = _PAIR.fullmatch(first.strip())
                if pair is None or not others or not all(other.strip() for other in others):
                    raise InputError(
                        f"{path}, line {number}: expected (user,item), a tab, and item ids with tabs between them, "
                        f"got {line.rstrip()[:60]!r}"
                    )
                users.append(pair[1])
                items.append(pair[2])
                negatives.extend(other.strip() for other in others)
                start.append(len(negatives))
    except FileNotFoundError:
        raise InputError(f"{path} can't be read: no such file. Correct --negatives-file.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} can't be read ({error})") from None
    if not users:
        raise InputError(f"{path} is empty: a line a user is needed, (user,item) and item ids with tabs between them")
    # One kind for all item ids: a map of items holds one kind.
    both = _ids(items + negatives)
    return Negatives(_ids(users), both[: len(items)], np.array(start, np.int64), both[len(items) :])


def _ids(texts: list[str]) -> np.ndarray:
    # Canonical ones alone, as in every file: 007 is not 7.
    if all(_WHOLE.fullmatch(text) for text in texts):
        return as_ids(np.array([int(text) for text in texts], np.int64))
    return as_ids(np.array(texts, dtype=str))
