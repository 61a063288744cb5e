"""`FactorModel`: the factors and everything needed to rank with them; saved, loaded, verified.

On disk it is four files that numpy and a JSON reader open without Rankline, none of which can run
code: ``user_features.npy``, ``movie_features.npy``, ``seen.npz`` and ``metadata.json``, which
holds the sha256 of the other three.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from pipeline.errors import ArtifactError, InputError, RowRangeError
from pipeline.ids import IdMap, as_ids

__all__ = ["FILES", "FORMAT", "METADATA", "FactorModel", "load_ids"]

FORMAT = 1
USER_FACTORS, ITEM_FACTORS, SEEN, METADATA = FILES = (
    "user_features.npy",
    "movie_features.npy",
    "seen.npz",
    "metadata.json",
)
# What numpy's and zipfile's readers raise on damaged bytes, besides ValueError.
_UNREADABLE = (
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    OSError,
    EOFError,
    MemoryError,
    OverflowError,
    RuntimeError,
    SyntaxError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


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
        files = {name: _sha256(folder / name) for name in (USER_FACTORS, ITEM_FACTORS, SEEN)}
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
        for name in (USER_FACTORS, ITEM_FACTORS, SEEN):
            try:
                found = _sha256(folder / name)
            except OSError as error:
                raise ArtifactError(f"{folder / name} can't be read ({error.strerror}); log the model again") from None
            if found != metadata["files"].get(name):
                raise ArtifactError(
                    f"{folder / name} has a wrong checksum: it is damaged or was changed after training"
                )
        try:
            mode: Literal["r"] | None = "r" if mapped else None
            user_factors = _load_array(folder / USER_FACTORS, mode)
            item_factors = _load_array(folder / ITEM_FACTORS, None)
            users, items = _ids(metadata, "user_ids"), _ids(metadata, "movie_ids")
            seen = _load_seen(folder / SEEN, mapped, (len(users), len(items)))
            own = ("format", "files", "id_digests", "user_ids", "movie_ids")
            meta = {k: v for k, v in metadata.items() if k not in own}
            model = cls(user_factors, item_factors, users, items, seen, meta)
        except ArtifactError as error:
            raise ArtifactError(f"{folder}: {error}") from None
        except _UNREADABLE as error:
            reason = " ".join(str(error).split())[:200]
            raise ArtifactError(f"{folder}: the artifacts can't be read ({reason})") from None
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
    metadata = _read_metadata(Path(folder))
    try:
        users, items = _ids(metadata, "user_ids"), _ids(metadata, "movie_ids")
    except ArtifactError as error:
        raise ArtifactError(f"{folder}: {error}") from None
    except _UNREADABLE as error:
        raise ArtifactError(f"{folder}: the ids can't be read ({' '.join(str(error).split())[:200]})") from None
    return users, items, {key: value for key, value in metadata.items() if key not in ("user_ids", "movie_ids")}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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


def _load_array(path: Path, mode: Literal["r"] | None) -> NDArray[np.float32]:
    array = np.load(path, allow_pickle=False, mmap_mode=mode)
    if not isinstance(array, np.ndarray):
        raise ArtifactError(f"{path.name} is not one array")
    return array


def _not_json(word: str) -> float:
    raise ValueError(f"{word} is not JSON")


def _read_metadata(folder: Path) -> dict[str, Any]:
    path = folder / METADATA
    try:
        metadata = json.loads(path.read_bytes(), parse_constant=_not_json)
    except FileNotFoundError:
        raise ArtifactError(f"{path} is missing: {folder} does not hold a model's artifacts") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} can't be read ({error})") from None
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        found = metadata.get("format") if isinstance(metadata, dict) else None
        raise ArtifactError(f"{path} has format {found!r}; this version of Rankline reads format {FORMAT}")
    if not isinstance(metadata.get("files"), dict):
        raise ArtifactError(f"{path} does not list the checksums of its files")
    for key in ("user_ids", "movie_ids"):
        if not isinstance(metadata.get(key), list):
            raise ArtifactError(f"{path} has no list {key}")
    return metadata


def _ids(metadata: dict[str, Any], key: str) -> IdMap:
    values = metadata[key]
    kinds = {type(value) for value in values}
    if kinds - {int} and kinds - {str}:
        raise ArtifactError("ids are neither all integers nor all strings")
    try:
        ids = IdMap(as_ids(np.array(values, dtype=str if kinds == {str} else np.int64)))
    except (InputError, OverflowError) as error:
        raise ArtifactError(f"{key}: {error}") from None
    digests = metadata.get("id_digests")
    if ids.values.size and (not isinstance(digests, dict) or digests.get(key) != ids.digest):
        raise ArtifactError(f"{key} have a wrong checksum: they are damaged or were changed after training")
    return ids


def _load_seen(path: Path, mapped: bool, shape: tuple[int, int]) -> sparse.csr_matrix:
    if not zipfile.is_zipfile(path):
        raise ArtifactError(f"{path.name} is not an .npz")
    with np.load(path, allow_pickle=False) as arrays:
        indptr, stored_shape = arrays["indptr"], tuple(arrays["shape"].ravel().tolist())
        indices = None if mapped else arrays["indices"]
    if indices is None:
        indices = _map_member(path, "indices.npy")
    if stored_shape != shape:
        raise ArtifactError(f"{path.name} is for {stored_shape}, the ids for {shape}")
    # Signed: the difference of falling unsigned integers is not negative, and scipy reads where it points.
    if indptr.dtype != np.int64 or indices.ndim != 1:
        raise ArtifactError(f"{path.name}: indptr must be int64 and the item rows one-dimensional")
    if indptr.shape != (shape[0] + 1,) or indptr[0] != 0 or indptr[-1] != indices.size or (np.diff(indptr) < 0).any():
        raise ArtifactError(f"{path.name}: indptr does not fit {indices.size} seen items")
    if indices.dtype != np.int32 or (indices.size and (indices.min() < 0 or indices.max() >= shape[1])):
        raise ArtifactError(f"{path.name}: item rows must be int32 in range [0, {shape[1]})")
    # One byte a cell, shared by all: only the pattern means anything, so the values are a broadcast.
    data = np.broadcast_to(np.int8(1), indices.shape)
    seen = sparse.csr_matrix(shape, dtype=np.int8)
    # Assigned, not passed: the constructor would copy the mapped indices to match indptr's type.
    seen.data, seen.indices, seen.indptr = data, indices, indptr
    return seen


def _map_member(path: Path, name: str) -> NDArray[Any]:
    """Memory-map one array of an uncompressed .npz (numpy maps .npy files only)."""
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(name)
        if info.compress_type != zipfile.ZIP_STORED:
            raise ArtifactError(f"{path.name} is compressed")
        with archive.open(info) as member:
            version = np.lib.format.read_magic(member)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(member)
            header = member.tell()
    with path.open("rb") as file:
        # The local header: 30 bytes, then the name and the extra field, whose lengths are at 26 and 28.
        file.seek(info.header_offset + 26)
        lengths = file.read(4)
        start = info.header_offset + 30 + int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little")
    if dtype.hasobject:
        raise ArtifactError(f"{path.name} holds objects")
    if len(shape) != 1 or not shape[0]:
        return np.empty(shape, dtype)
    return np.memmap(path, dtype=dtype, mode="r", offset=start + header, shape=shape)
