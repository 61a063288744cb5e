"""Writes a saved model: the arrays of its kind, the files that all kinds have, metadata, and last its signature."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pipeline.data.mapped import is_mapped, release_all
from pipeline.data.repeats import Repeats
from pipeline.models import safe_files
from pipeline.models.item_snapshot import ItemSnapshot, ItemTexts, write_snapshot
from pipeline.models.model_files import (
    ALL_FILES,
    DEFAULT_NAMES,
    FORMAT,
    ITEMS,
    METADATA,
    REPEATS,
    REPEATS_FILE,
    SCORES,
    SEEN,
)
from pipeline.models.protocols import SavedModel
from pipeline.models.signatures import SIGNATURE, SigningKeys
from pipeline.models.stored_repeats import write_repeats

__all__ = ["Write", "array_writer", "sparse_writer", "write_model"]

Write = Callable[[IO[bytes]], None]


def array_writer(array: NDArray[Any]) -> Write:
    """Writes one array as ``.npy``."""

    return lambda file: np.save(file, np.ascontiguousarray(array), allow_pickle=False)


def sparse_writer(matrix: sparse.csr_matrix, **data: NDArray[Any]) -> Write:
    """Writes a sparse matrix as ``.npz``: where its cells are, and `data` by name."""

    def write(file: IO[bytes]) -> None:
        pattern = {"indptr": matrix.indptr.astype(np.int64), "indices": matrix.indices.astype(np.int32, copy=False)}
        arrays: dict[str, Any] = {**pattern, "shape": np.array(matrix.shape, np.int64), **data}
        np.savez(file, allow_pickle=False, **arrays)

    return write


def write_model(
    model: SavedModel,
    folder: str | Path,
    files: Mapping[str, Write],
    facts: Mapping[str, Any],
    texts: ItemTexts | None,
    folders: Collection[str] = (),
) -> Path:
    """Write a model's files into `folder` (made if missing), metadata last; signed, where there are signing keys.

    Each file is written under another name and then moved into place. So a model can be saved into the folder that it
    is mapped from.

    Parameters
    ----------
    model : its `seen` of float32 has scores, which are written too; of any other type it is a pattern
    files : writers of the files of this kind
    facts : JSON-able, besides the model's `meta`: the sizes of its arrays
    texts : titles and genres of the items, if known
    folders : the folders of this kind, which the caller has written
    """
    folder, seen = Path(folder), model.seen
    folder.mkdir(parents=True, exist_ok=True)
    writers: dict[str, Write] = {**files, SEEN: sparse_writer(seen)}
    if seen.dtype == np.float32:
        writers[SCORES] = array_writer(seen.data)
    writers[ITEMS] = lambda file: write_snapshot(file, ItemSnapshot.of(model.items, seen, texts))
    repeats = model.meta.get(REPEATS)
    if isinstance(repeats, Repeats) and repeats.n_cells == seen.nnz:  # else they are of other cells
        writers[REPEATS_FILE] = lambda file: write_repeats(file, repeats)
    digests = {}
    for name, write in writers.items():
        with _replacing(folder / name) as file:
            write(_GivingBack(file) if is_mapped(seen.indices) else file)  # type: ignore[arg-type]  # a file in all but its type
        with safe_files.opened(folder, name) as written:
            digests[name] = safe_files.sha256(written)
    content = _metadata(model, facts, digests)
    with _replacing(folder / METADATA) as file:
        file.write(content)
    signature = SigningKeys.of_environment().signature(content)
    if signature is not None:
        with _replacing(folder / SIGNATURE) as file:
            file.write(signature)
    kept = {*digests, *folders, METADATA, *([SIGNATURE] if signature is not None else [])}
    for name in set(ALL_FILES) - kept:  # files of a model that was saved here before
        if (folder / name).is_dir():
            shutil.rmtree(folder / name)
        else:
            (folder / name).unlink(missing_ok=True)
    return folder


class _GivingBack:
    """A file to which numpy writes some megabytes at a time; what it has read of mapped arrays is given back."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, content: Any) -> int:
        n = self._file.write(content)
        release_all()
        return n

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _metadata(model: SavedModel, facts: Mapping[str, Any], digests: Mapping[str, str]) -> bytes:
    """``metadata.json``: the facts, the checksums of the other files, and the ids."""
    head = {
        "format": FORMAT,
        "kind": model.kind,
        "model": DEFAULT_NAMES[model.kind],
        "run_id": None,
        "data_watermark": None,
    }
    metadata = {
        **head,
        **{key: value for key, value in {**model.meta, **facts}.items() if key not in ("format", "kind", REPEATS)},
        "n_users": len(model.users),
        "n_items": len(model.items),
        "files": digests,
        "id_digests": {"user_ids": model.users.digest, "movie_ids": model.items.digest},
        "user_ids": model.users.values.tolist(),
        "movie_ids": model.items.values.tolist(),
    }
    text = json.dumps(metadata, ensure_ascii=False, allow_nan=False, indent=None, sort_keys=False)
    return (text + "\n").encode("utf-8")


@contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file to write, which replaces `path` when it is complete."""
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            yield file
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
