"""`FactorModel`: the factors and everything needed to rank with them; saved, loaded, verified.

On disk it is four files that numpy and a JSON reader open without Rankline, none of which can run
code: ``user_features.npy``, ``movie_features.npy``, ``seen.npz`` and ``metadata.json``, which
holds the sha256 of the other three.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from pipeline import bounded
from pipeline.errors import ArtifactError, InputError, RowRangeError
from pipeline.ids import MAX_ID_LENGTH, IdMap, as_ids

__all__ = ["FILES", "FORMAT", "METADATA", "FactorModel", "load_ids"]

FORMAT = 1
USER_FACTORS, ITEM_FACTORS, SEEN, METADATA = FILES = (
    "user_features.npy",
    "movie_features.npy",
    "seen.npz",
    "metadata.json",
)
# Members of seen.npz, in the order that they are written.
_SEEN_MEMBERS = ("indptr.npy", "indices.npy", "shape.npy")
# metadata.json: parameters, metrics and the like; and a line for each id, whose characters may be escaped.
_FACTS_BYTES, _ID_BYTES, _METADATA_BYTES = 1 << 24, 6 * MAX_ID_LENGTH + 4, 1 << 30
# Headers, and a zip's table of contents, beside the numbers themselves.
_BESIDE_BYTES = 1 << 16


@dataclass(frozen=True, eq=False)
class FactorModel:
    """V ≈ W·H with the ids of its rows and columns and what each user has seen.

    Attributes
    ----------
    user_factors : (n_users, k) float32, W
    item_factors : (k, n_items) float32, H
    users, items : ids of W's rows and of H's columns
    seen : csr (n_users, n_items); a stored cell is a seen item, whatever its value
    meta : JSON-able facts (parameters, metrics, run), written to metadata.json
    """

    user_factors: NDArray[np.float32]
    item_factors: NDArray[np.float32]
    users: IdMap
    items: IdMap
    seen: sparse.csr_matrix
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        w, h = self.user_factors, self.item_factors
        if w.ndim != 2 or h.ndim != 2 or w.shape[1] != h.shape[0]:
            raise ArtifactError(f"Factors of shapes {w.shape} and {h.shape} can't be multiplied")
        if w.dtype != np.float32 or h.dtype != np.float32:
            raise ArtifactError(f"Factors must be float32, got {w.dtype} and {h.dtype}")
        # min and max carry NaN and infinity without an array of flags.
        if any(a.size and not (np.isfinite(a.min()) and np.isfinite(a.max())) for a in (w, h)):
            raise ArtifactError("Factors must be finite")
        shape = (len(self.users), len(self.items))
        if (w.shape[0], h.shape[1]) != shape or self.seen.shape != shape:
            raise ArtifactError(
                f"Factors are for {(w.shape[0], h.shape[1])}, seen for {self.seen.shape}, ids for {shape}"
            )

    @property
    def n_components(self) -> int:
        """k, the number of latent factors."""
        return int(self.item_factors.shape[0])

    def predict(self, user_rows: ArrayLike, item_rows: ArrayLike) -> NDArray[np.float32]:
        """Score of each pair (user_rows[i], item_rows[i]), (n,) float32.

        Σ_t w_ut·h_ti, added up in float64 in the order of t and rounded once: the one definition
        of a score, whichever way the candidates were found. Raises RowRangeError.
        """
        rows, cols = self._rows(user_rows, "User", len(self.users)), self._rows(item_rows, "Item", len(self.items))
        if rows.shape != cols.shape:
            raise InputError(f"{rows.size} user rows and {cols.size} item rows: one item a user")
        total = np.zeros(rows.size, np.float64)
        for t in range(self.n_components):
            total += self.user_factors[rows, t].astype(np.float64) * self.item_factors[t, cols]
        with np.errstate(over="ignore"):
            return total.astype(np.float32)

    def user_embeddings(self, rows: ArrayLike) -> NDArray[np.float32]:
        """Factors of the users in `rows`, (n, k)."""
        return np.array(self.user_factors[self._rows(rows, "User", len(self.users))])

    def item_embeddings(self, rows: ArrayLike) -> NDArray[np.float32]:
        """Factors of the items in `rows`, (n, k)."""
        return np.array(self.item_factors[:, self._rows(rows, "Item", len(self.items))].T)

    @staticmethod
    def _rows(rows: ArrayLike, what: str, n: int) -> NDArray[np.intp]:
        index = np.atleast_1d(np.asarray(rows))
        if index.dtype.kind not in "iu" and index.size:
            raise InputError(f"{what} rows must be integers, got {index.dtype}")
        if index.size and (index.min() < 0 or index.max() >= n):
            raise RowRangeError(f"{what} IDs must be in range [0, {n})")
        return index.astype(np.intp)

    # ---- disk -------------------------------------------------------------------------------

    def save(self, folder: str | Path) -> Path:
        """Write the four files into `folder` (made if missing), metadata last.

        Each is written beside its place and moved there, so a model can be saved where it is mapped from.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with _replacing(folder / USER_FACTORS) as file:
            np.save(file, np.ascontiguousarray(self.user_factors), allow_pickle=False)
        with _replacing(folder / ITEM_FACTORS) as file:
            np.save(file, np.ascontiguousarray(self.item_factors), allow_pickle=False)
        with _replacing(folder / SEEN) as file:
            np.savez(
                file,
                allow_pickle=False,
                indptr=self.seen.indptr.astype(np.int64),
                indices=self.seen.indices.astype(np.int32),
                shape=np.array(self.seen.shape, np.int64),
            )
        files = {}
        for name in (USER_FACTORS, ITEM_FACTORS, SEEN):
            with bounded.opened(folder, name) as written:
                files[name] = bounded.sha256(written)
        metadata = {
            "format": FORMAT,
            **{key: value for key, value in self.meta.items() if key != "format"},
            "n_users": len(self.users),
            "n_items": len(self.items),
            "n_components": self.n_components,
            "files": files,
            "id_digests": {"user_ids": self.users.digest, "movie_ids": self.items.digest},
            "user_ids": self.users.values.tolist(),
            "movie_ids": self.items.values.tolist(),
        }
        text = json.dumps(metadata, ensure_ascii=False, allow_nan=False, indent=None, sort_keys=False)
        with _replacing(folder / METADATA) as file:
            file.write((text + "\n").encode("utf-8"))
        return folder

    @classmethod
    def load(cls, folder: str | Path, *, mapped: bool = False) -> FactorModel:
        """Read and verify the four files: format number, sha256s, shapes and types.

        `mapped=True` leaves the user factors and the seen items on disk (memory-mapped), so that
        walking over all users in blocks takes no more memory than a block.

        Raises
        ------
        ArtifactError
            Naming the file and what is wrong with it.
        """
        folder = Path(folder)
        metadata = _read_metadata(folder)
        try:
            users, items = _ids(metadata, "user_ids"), _ids(metadata, "movie_ids")
        except ArtifactError as error:
            raise ArtifactError(f"{folder / METADATA}: {error}") from None
        shape, k = (len(users), len(items)), metadata["n_components"]
        with _verified(folder, USER_FACTORS, metadata, 4 * shape[0] * k) as file:
            user_factors = bounded.read_array(file, bounded.whole(file), "<f4", 2, mapped=mapped)
        with _verified(folder, ITEM_FACTORS, metadata, 4 * k * shape[1]) as file:
            item_factors = bounded.read_array(file, bounded.whole(file), "<f4", 2)
        # Each item once for each user, at most.
        most_seen = 8 * (shape[0] + 1) + 4 * shape[0] * shape[1]
        with _verified(folder, SEEN, metadata, most_seen) as file:
            seen = _read_seen(file, mapped, shape)
        own = ("format", "files", "id_digests", "user_ids", "movie_ids")
        meta = {k: v for k, v in metadata.items() if k not in own}
        try:
            model = cls(user_factors, item_factors, users, items, seen, meta)
        except ArtifactError as error:
            raise ArtifactError(f"{folder}: {error}") from None
        if mapped:
            model.release()
        return model

    def release(self) -> None:
        """Give back the memory of mapped pages already walked over (nothing else changes)."""
        for array in (self.user_factors, self.seen.indices):
            base: Any = array
            while base is not None and not isinstance(base, mmap.mmap):
                base = getattr(base, "_mmap", None) or getattr(base, "base", None)
            if base is not None and hasattr(mmap, "MADV_DONTNEED"):
                base.madvise(mmap.MADV_DONTNEED)


def load_ids(folder: str | Path) -> tuple[IdMap, IdMap, dict[str, Any]]:
    """Users, items and meta of saved artifacts, from ``metadata.json`` alone: format number and ids verified.

    Raises ArtifactError, as `FactorModel.load`.
    """
    folder = Path(folder)
    metadata = _read_metadata(folder)
    try:
        users, items = _ids(metadata, "user_ids"), _ids(metadata, "movie_ids")
    except ArtifactError as error:
        raise ArtifactError(f"{folder / METADATA}: {error}") from None
    return users, items, {key: value for key, value in metadata.items() if key not in ("user_ids", "movie_ids")}


@contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file to write that takes the place of `path` once it is whole."""
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            yield file
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def _verified(folder: Path, name: str, metadata: Mapping[str, Any], n_bytes: int) -> Iterator[BufferedReader]:
    """The file, once its checksum holds; faults found in it are told with its name.

    Of one that is much longer than the `n_bytes` that its numbers take at most, nothing is read.
    """
    with bounded.opened(folder, name) as file:
        size = bounded.whole(file).length
        if size > n_bytes + _BESIDE_BYTES:
            raise ArtifactError(f"{folder / name} has {size:,} bytes, and {METADATA} accounts for {n_bytes:,}")
        if bounded.sha256(file) != metadata["files"].get(name):
            raise ArtifactError(f"{folder / name} has a wrong checksum: it is damaged or was changed after training")
        try:
            yield file
        except ArtifactError as error:
            raise ArtifactError(f"{folder / name}: {error}") from None
        except (OSError, MemoryError) as error:
            reason = getattr(error, "strerror", None) or "there is not enough memory for it"
            raise ArtifactError(f"{folder / name} can't be read ({reason})") from None


def _read_metadata(folder: Path) -> dict[str, Any]:
    path = folder / METADATA
    # A user and an item have four bytes at least in the factors, so their files tell how many there may be.
    n_most = 0
    for name in (USER_FACTORS, ITEM_FACTORS):
        with suppress(OSError):
            n_most += (folder / name).stat().st_size // 4
    limit = min(_FACTS_BYTES + _ID_BYTES * n_most, _METADATA_BYTES)
    with bounded.opened(folder, METADATA) as file:
        try:
            metadata = bounded.read_json(file, limit)
        except ArtifactError as error:
            raise ArtifactError(f"{path} can't be read ({error})") from None
    found = metadata.get("format") if isinstance(metadata, dict) else None
    # 1.0 and true are equal to 1, and are not what is written.
    if not isinstance(metadata, dict) or type(found) is not int or found != FORMAT:
        raise ArtifactError(f"{path} has format {found!r:.60}; this version of Rankline reads format {FORMAT}")
    if not isinstance(metadata.get("files"), dict):
        raise ArtifactError(f"{path} does not list the checksums of its files")
    for key in ("user_ids", "movie_ids"):
        if not isinstance(metadata.get(key), list):
            raise ArtifactError(f"{path} has no list {key}")
    _check_facts(metadata, path)
    return metadata


def _check_facts(metadata: Mapping[str, Any], path: Path) -> None:
    """Raise ArtifactError where what is shown and published of a model is of another kind than is written."""
    for key in ("run_id", "source", "query_digest"):
        value = metadata.get(key)
        # These go into messages, table names and the published rows.
        if value is not None and not (isinstance(value, str) and len(value) <= 200 and value.isprintable()):
            raise ArtifactError(f"{path} has {key} = {value!r:.60}, which is none")
    k, parameters, metrics = (metadata.get(key, {}) for key in ("n_components", "parameters", "metrics"))
    if type(k) is not int or k < 0:
        raise ArtifactError(f"{path} has n_components = {k!r:.60}, which is no number of factors")
    if not isinstance(parameters, dict):
        raise ArtifactError(f"{path} has parameters that are no object")
    if not (isinstance(metrics, dict) and all(type(value) in (int, float) for value in metrics.values())):
        raise ArtifactError(f"{path} has metrics that are no numbers")


def _ids(metadata: dict[str, Any], key: str) -> IdMap:
    values = metadata[key]
    kinds = {type(value) for value in values}
    if kinds - {int} and kinds - {str}:
        raise ArtifactError(f"{key} are neither all integers nor all strings")
    # Before there is an array: it gives every id the width of the longest.
    if kinds == {str} and max(map(len, values)) > MAX_ID_LENGTH:
        raise ArtifactError(f"{key}: Ids must be at most {MAX_ID_LENGTH} characters long")
    try:
        ids = IdMap(as_ids(np.array(values, dtype=str if kinds == {str} else np.int64)))
    except (InputError, OverflowError) as error:
        raise ArtifactError(f"{key}: {error}") from None
    digests = metadata.get("id_digests")
    if ids.values.size and (not isinstance(digests, dict) or digests.get(key) != ids.digest):
        raise ArtifactError(f"{key} have a wrong checksum: they are damaged or were changed after training")
    return ids


def _read_seen(file: BufferedReader, mapped: bool, shape: tuple[int, int]) -> sparse.csr_matrix:
    parts = bounded.members(file, _SEEN_MEMBERS)
    indptr_part, indices_part, shape_part = (parts[name] for name in _SEEN_MEMBERS)
    stored_shape = tuple(bounded.read_array(file, shape_part, "<i8", 1).tolist())
    if stored_shape != shape:
        raise ArtifactError(f"it is for {str(stored_shape)[:60]}, the ids for {shape}")
    # Signed: the difference of falling unsigned integers is not negative, and scipy reads where it points.
    indptr = bounded.read_array(file, indptr_part, "<i8", 1)
    indices = bounded.read_array(file, indices_part, "<i4", 1, mapped=mapped)
    if indptr.shape != (shape[0] + 1,) or indptr[0] != 0 or indptr[-1] != indices.size or (np.diff(indptr) < 0).any():
        raise ArtifactError(f"indptr does not fit {indices.size} seen items")
    if indices.size and (indices.min() < 0 or indices.max() >= shape[1]):
        raise ArtifactError(f"item rows must be in range [0, {shape[1]})")
    # One byte a cell, shared by all: only the pattern means anything, so the values are a broadcast.
    data = np.broadcast_to(np.int8(1), indices.shape)
    seen = sparse.csr_matrix(shape, dtype=np.int8)
    # Assigned, not passed: the constructor would copy the mapped indices to match indptr's type.
    seen.data, seen.indices, seen.indptr = data, indices, indptr
    return seen
