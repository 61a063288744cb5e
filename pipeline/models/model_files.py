"""The files of a saved model: their names, and reading the files that all kinds have.

All have ids, seen items with their scores, and ``metadata.json``, which holds the sha256 of each other file and may be
signed. numpy and a JSON reader open all of them without Rankline; none can run code. `pipeline.models.model_writer`
writes them.
"""

from __future__ import annotations

import hashlib
import mmap
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from io import BufferedReader
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pipeline.data.id_map import MAX_ID_LENGTH, IdMap
from pipeline.data.repeats import Repeats
from pipeline.errors import ArtifactError
from pipeline.models import safe_files
from pipeline.models.item_snapshot import ItemSnapshot, most_bytes, read_snapshot
from pipeline.models.pattern import read_seen
from pipeline.models.signatures import SIGNATURE, SigningKeys
from pipeline.models.stored_ids import both_ids
from pipeline.models.stored_repeats import CELL_BYTES, read_repeats

__all__ = [
    "ALL_FILES",
    "DEFAULT_NAMES",
    "FORMAT",
    "ITEMS",
    "ITEM_ITEM_FORMS",
    "METADATA",
    "OWN_FILES",
    "REPEATS",
    "REPEATS_FILE",
    "SCORES",
    "SEEN",
    "Form",
    "Kind",
    "ModelFolder",
    "load_ids",
    "missing_files",
    "release",
]

Kind = Literal["factors", "item_item", "popularity", "neural", "ensemble", "rerank"]

# Format 1 has only factors; it has no kind, scores or items.
FORMAT, FORMATS = 2, (1, 2)
SEEN, SCORES, ITEMS, METADATA = "seen.npz", "scores.npy", "items.npz", "metadata.json"
# Of duplicates that became means. In `meta` under REPEATS; a file of its own, as there may be many.
REPEATS, REPEATS_FILE = "repeats", "repeats.npz"
# The files of a kind; a neural model has those of a model of factors, too.
OWN_FILES: Mapping[Kind, tuple[str, ...]] = {
    "factors": ("user_features.npy", "movie_features.npy"),
    "item_item": ("similarity.npz",),
    "popularity": ("item_scores.npy",),
    "ensemble": ("members",),  # a folder, with a folder of each member
    "neural": ("user_features.npy", "movie_features.npy", "network.npz"),
    "rerank": ("trees.txt", "item_facts.npy", "item_genres.npz", "members"),
}
# A model of items and items is stored in one of three forms.
Form = Literal["neighbours", "dense", "dual"]
ITEM_ITEM_FORMS: Mapping[Form, tuple[str, ...]] = {
    "neighbours": OWN_FILES["item_item"],
    "dense": ("item_weights.npy",),
    "dual": ("user_kernel.npy", "leverage.npy"),
}
_SETS_OF_FILES = (*OWN_FILES.values(), *(names for form, names in ITEM_ITEM_FORMS.items() if form != "neighbours"))
# The name of a model whose metadata has none: saved before format 2, or not in the registry.
DEFAULT_NAMES: Mapping[Kind, str] = {
    "factors": "nmf", "item_item": "item-knn", "popularity": "popular", "neural": "neumf", "ensemble": "ensemble",
    "rerank": "rerank",
}  # fmt: skip
ALL_FILES = (
    *dict.fromkeys(name for names in _SETS_OF_FILES for name in names),
    SEEN,
    SCORES,
    ITEMS,
    REPEATS_FILE,
    METADATA,
    SIGNATURE,
)
# metadata.json: parameters, metrics and the like; and a line for each id, whose characters may be escaped.
_FACTS_BYTES, _ID_BYTES, _METADATA_BYTES = 1 << 24, 6 * MAX_ID_LENGTH + 4, 1 << 30
# Bytes of headers and a zip's table of contents, besides the numbers.
_BESIDE_BYTES = 1 << 16
_MODEL_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
# Keys that are not among the facts of the model.
_NO_FACTS = ("format", "kind", "files", "id_digests", "user_ids", "movie_ids", REPEATS)


class ModelFolder:
    """A folder that holds a saved model: its metadata and ids are read and verified, its arrays on request.

    listed : sha256 of the metadata as another model's metadata lists it, which takes the place of a signature

    Raises ArtifactError, which names the file and what is wrong with it.
    """

    def __init__(self, folder: str | Path, listed: str | None = None) -> None:
        self.folder = Path(folder)
        self.metadata = _read_metadata(self.folder, listed)
        self.kind: Kind = self.metadata.get("kind", "factors")
        self.users, self.items = both_ids(self.folder / METADATA, self.metadata)
        self.shape = (len(self.users), len(self.items))

    @property
    def name(self) -> str:
        """Name of the model in the registry of models: ``nmf``."""
        return str(self.metadata.get("model") or DEFAULT_NAMES[self.kind])

    @property
    def meta(self) -> dict[str, Any]:
        """The facts that the model was saved with. Raises ArtifactError for a file of repeats that is damaged."""
        facts = {key: value for key, value in self.metadata.items() if key not in _NO_FACTS}
        return facts if self._repeats is None else {**facts, REPEATS: self._repeats}

    @cached_property
    def _repeats(self) -> Repeats | None:
        if REPEATS_FILE not in self.metadata["files"]:
            return None
        with safe_files.opened(self.folder, SEEN) as file:
            most = safe_files.whole(file).length // 4  # each seen item takes as many bytes there
        with self.verified(REPEATS_FILE, CELL_BYTES * most) as file:
            return read_repeats(file)

    def expect(self, kind: Kind) -> None:
        """Raise ArtifactError if the model is of another kind."""
        if self.kind != kind:
            raise ArtifactError(f"{self.folder} holds a model of kind {self.kind}, not {kind}")

    @contextmanager
    def verified(self, name: str, n_bytes: int) -> Iterator[BufferedReader]:
        """The file, after its checksum was verified; an error in it names the file.

        A file that is much longer than `n_bytes`, the most that its numbers can take, is not read.
        """
        path = self.folder / name
        with safe_files.opened(self.folder, name) as file:
            size = safe_files.whole(file).length
            if size > n_bytes + _BESIDE_BYTES:
                raise ArtifactError(f"{path} has {size:,} bytes, and {METADATA} accounts for {n_bytes:,}")
            if safe_files.sha256(file) != self.metadata["files"].get(name):
                raise ArtifactError(f"{path} has a wrong checksum: it is damaged or was changed after training")
            try:
                yield file
            except ArtifactError as error:
                raise ArtifactError(f"{path}: {error}") from None
            except (OSError, MemoryError) as error:
                reason = getattr(error, "strerror", None) or "there is not enough memory for it"
                raise ArtifactError(f"{path} can't be read ({reason})") from None

    def array(self, name: str, dtype: str, shape: tuple[int, ...], *, mapped: bool = False) -> NDArray[Any]:
        """A float or integer array of one file; the caller checks its shape."""
        n_bytes = int(np.prod(shape, dtype=object)) * np.dtype(dtype).itemsize
        with self.verified(name, n_bytes) as file:
            return safe_files.read_array(file, safe_files.whole(file), dtype, len(shape), mapped=mapped)

    def seen(self, *, mapped: bool = False) -> sparse.csr_matrix:
        """Seen items of each user: with scores (float32) if the model has them, otherwise a pattern (int8)."""
        # Each item once for each user, at most.
        most = 8 * (self.shape[0] + 1) + 4 * self.shape[0] * self.shape[1]
        with self.verified(SEEN, most) as file:
            pattern = read_seen(file, mapped, self.shape)
        n = int(pattern.indices.size)
        # For a pattern all cells share one byte.
        data: NDArray[Any] = np.broadcast_to(np.int8(1), n)
        if SCORES in self.metadata["files"]:
            data = self.array(SCORES, "<f4", (n,), mapped=mapped)
            if data.size != n:
                raise ArtifactError(f"{self.folder / SCORES} has {data.size} scores for {n} seen items")
            if n and not (np.isfinite(data.min()) and np.isfinite(data.max())):
                raise ArtifactError(f"{self.folder / SCORES}: scores must be finite")
        seen = sparse.csr_matrix(self.shape, dtype=data.dtype)
        # Assigned, not passed: the constructor would copy the mapped indices to match indptr's type.
        seen.data, seen.indices, seen.indptr = data, pattern.indices, pattern.indptr
        return seen

    def check_items(self) -> None:
        """Raise ArtifactError if the item snapshot is not the one that the metadata lists."""
        if ITEMS in self.metadata["files"]:
            with self.verified(ITEMS, most_bytes(len(self.items))):
                pass

    def snapshot(self) -> ItemSnapshot | None:
        """The items with titles, genres and popularity; None for a model saved before format 2."""
        if ITEMS not in self.metadata["files"]:
            return None
        with self.verified(ITEMS, most_bytes(len(self.items))) as file:
            return read_snapshot(file, self.items)

    @contextmanager
    def named(self) -> Iterator[None]:
        """Add the folder's name to errors of the model that is made from the files."""
        try:
            yield
        except ArtifactError as error:
            raise ArtifactError(f"{self.folder}: {error}") from None


def release(*arrays: NDArray[Any]) -> None:
    """Free the memory of mapped pages that were read; they are read again if needed."""
    for array in arrays:
        base: Any = array
        while base is not None and not isinstance(base, mmap.mmap):
            base = getattr(base, "_mmap", None) or getattr(base, "base", None)
        if base is not None and hasattr(mmap, "MADV_DONTNEED"):
            base.madvise(mmap.MADV_DONTNEED)


def missing_files(present: Collection[str]) -> tuple[str, ...]:
    """Files that a folder with these files lacks to be a saved model of the closest kind."""
    own = max(_SETS_OF_FILES, key=lambda names: sum(name in present for name in names))
    return tuple(name for name in (*own, SEEN, METADATA) if name not in present)


def load_ids(folder: str | Path) -> tuple[IdMap, IdMap, dict[str, Any]]:
    """Users, items and meta of saved artifacts, from ``metadata.json`` alone: format number and ids verified.

    Raises ArtifactError, as loading the model does.
    """
    folder = Path(folder)
    metadata = _read_metadata(folder)
    users, items = both_ids(folder / METADATA, metadata)
    return users, items, {key: value for key, value in metadata.items() if key not in ("user_ids", "movie_ids")}


def _read_metadata(folder: Path, listed: str | None = None) -> dict[str, Any]:
    path = folder / METADATA
    # A user and an item have four bytes at least in the other files, so these tell how many there may be.
    n_most = 0
    for name in ALL_FILES:
        if name not in (METADATA, SIGNATURE, SCORES, ITEMS, REPEATS_FILE):
            with suppress(OSError):
                n_most += (folder / name).stat().st_size // (8 if name.endswith(".npz") else 4)
    limit = min(_FACTS_BYTES + _ID_BYTES * n_most, _METADATA_BYTES)
    with safe_files.opened(folder, METADATA) as file:
        try:
            content = safe_files.read_bytes(file, limit)
        except ArtifactError as error:
            raise ArtifactError(f"{path} can't be read ({error})") from None
    # The bytes that are verified are those that are parsed, and nothing is parsed before.
    if listed is None:
        SigningKeys.of_environment().verify(folder, content)
    elif hashlib.sha256(content).hexdigest() != listed:
        raise ArtifactError(f"{path} has a wrong checksum: it is damaged or was changed after training")
    try:
        metadata = safe_files.parse_json(content)
    except ArtifactError as error:
        raise ArtifactError(f"{path} can't be read ({error})") from None
    number = metadata.get("format") if isinstance(metadata, dict) else None
    # 1.0 and true equal 1 but are never written.
    if not isinstance(metadata, dict) or type(number) is not int or number not in FORMATS:
        known = " and ".join(map(str, FORMATS))
        raise ArtifactError(f"{path} has format {number!r:.60}; this version of Rankline reads formats {known}")
    if not isinstance(metadata.get("files"), dict):
        raise ArtifactError(f"{path} does not list the checksums of its files")
    for key in ("user_ids", "movie_ids"):
        if not isinstance(metadata.get(key), list):
            raise ArtifactError(f"{path} has no list {key}")
    _check_facts(metadata, path)
    return metadata


def _check_facts(metadata: Mapping[str, Any], path: Path) -> None:
    """Raise ArtifactError if a fact that is shown or published has another type than is written."""
    # Format 1 has only factors and names no kind.
    kind, model = metadata.get("kind", "factors" if metadata["format"] == 1 else None), metadata.get("model")
    if kind not in get_args(Kind) or (metadata["format"] == 1 and kind != "factors"):
        known = ", ".join(get_args(Kind))
        raise ArtifactError(f"{path} has kind {kind!r:.60}; this version of Rankline reads {known}")
    if model is not None and not (isinstance(model, str) and _MODEL_NAME.fullmatch(model)):
        raise ArtifactError(f"{path} has model = {model!r:.60}, which is no model's name")
    for key in ("run_id", "source", "query_digest"):
        value = metadata.get(key)
        # These go into messages, table names and the published rows.
        if value is not None and not (isinstance(value, str) and len(value) <= 200 and value.isprintable()):
            raise ArtifactError(f"{path} has {key} = {value!r:.60}, which is none")
    parameters, metrics = (metadata.get(key, {}) for key in ("parameters", "metrics"))
    if kind in ("factors", "neural") and not _is_count(k := metadata.get("n_components", {})):
        raise ArtifactError(f"{path} has n_components = {k!r:.60}, which is no number of factors")
    if not isinstance(parameters, dict):
        raise ArtifactError(f"{path} has parameters that are no object")
    if not (isinstance(metrics, dict) and all(type(value) in (int, float) for value in metrics.values())):
        raise ArtifactError(f"{path} has metrics that are no numbers")


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0
