"""`RerankModel`: a first model proposes 200 items, and trees order them; saved, loaded and verified.

    score(u, i) = 1 / (1 + exp(−f(u, i)))      i among the 200 unseen items that the first model scores highest for u
    score(u, i) = 0                            every other item

f is the sum of the trees (`pipeline.models.rerank.trees`) over the features of `pipeline.models.rerank.features`, in
float64; the score is rounded once to float32. Without trees, scores are the first model's own.

Its files are ``members/0/`` with the first model, ``trees.txt``, ``item_facts.npy``, ``item_genres.npz`` and those of
every saved model (`pipeline.models.model_files`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from pipeline.data.id_map import IdMap
from pipeline.errors import ArtifactError
from pipeline.models import safe_files
from pipeline.models.block_scores import pairs_by_user
from pipeline.models.item_snapshot import ItemTexts
from pipeline.models.members import MEMBERS, read_member, save_members
from pipeline.models.model_files import OWN_FILES, Kind, ModelFolder, release
from pipeline.models.model_writer import Write, array_writer, sparse_writer, write_model
from pipeline.models.pattern import read_pattern
from pipeline.models.protocols import SavedModel
from pipeline.models.rerank.candidates import candidates_of
from pipeline.models.rerank.features import NAMES, OF_ITEM, ItemFacts
from pipeline.models.rerank.trees import MOST_BYTES, Trees

__all__ = ["RerankModel"]

TREES, FACTS, GENRES, _ = OWN_FILES["rerank"]
_BLOCK_BYTES = 64 * 2**20  # bytes of a block of the first model's scores
_MOST_GENRES = 1 << 16


@dataclass(frozen=True, eq=False)
class RerankModel:
    """Attributes
    ----------
    base : the first model, with the same users, items and seen items
    trees : of the second stage; none: the first model ranks alone
    facts : what the second stage knows of the items
    users, items : ids of the rows and columns of `seen`
    seen : csr (n_users, n_items); a stored cell is a seen item, whatever its value; of float32 the values are scores
    meta : JSON-able facts (parameters, metrics, run), written to metadata.json
    """

    kind: ClassVar[Kind] = "rerank"

    base: SavedModel
    trees: Trees
    facts: ItemFacts
    users: IdMap
    items: IdMap
    seen: sparse.csr_matrix
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = (len(self.users), len(self.items))
        if self.seen.shape != shape or self.facts.values.shape[0] != shape[1]:
            raise ArtifactError(f"Seen is for {self.seen.shape}, facts for {len(self.facts.values)}, ids for {shape}")
        if (len(self.base.users), len(self.base.items)) != shape or self.trees.n_features != len(NAMES):
            raise ArtifactError("The first model or the trees are for other users, items or features")

    @property
    def alone(self) -> SavedModel | None:
        """The first model, where there is no second stage."""
        return None if len(self.trees) else self.base

    @property
    def users_a_block(self) -> int:
        """Number of users whose scores are held at the same time."""
        return max(1, _BLOCK_BYTES // (24 * max(1, len(self.items))))

    def scores(self, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """Scores of all items for the users in `rows`, (n, n_items). A user's do not depend on the others."""
        n = len(self.items)
        if self.alone is not None:
            return self.alone.predict(np.repeat(rows, n), np.tile(np.arange(n), rows.size)).reshape(rows.size, n)
        found = candidates_of(self.base, self.facts, rows)
        raw = self.trees.predict(found.features.reshape(-1, len(NAMES))).reshape(found.items.shape)
        with np.errstate(over="ignore"):
            score = np.where(found.unseen, 1 / (1 + np.exp(-raw)), 0.0).astype(np.float32)
        scores = np.zeros((rows.size, n), np.float32)
        np.put_along_axis(scores, found.items, score, axis=1)
        return scores

    def predict(self, user_rows: ArrayLike, item_rows: ArrayLike) -> NDArray[np.float32]:
        """Score of each pair (user_rows[i], item_rows[i]), (n,) float32. Raises RowRangeError."""
        if self.alone is not None:
            return self.alone.predict(user_rows, item_rows)
        shape = (len(self.users), len(self.items))
        return pairs_by_user(user_rows, item_rows, shape, self.users_a_block, self.scores)

    def goes_by(self, user_row: int, item_row: int) -> tuple[tuple[str, float], ...]:
        """Name and value of each feature that the trees go by; () where the item is no candidate."""
        found = candidates_of(self.base, self.facts, np.array([user_row]))
        place = np.flatnonzero((found.items[0] == item_row) & found.unseen[0])
        if self.alone is not None or not place.size:
            return ()
        return tuple(zip(NAMES, found.features[0, place[0]].tolist(), strict=True))

    def with_users(self, base: SavedModel, users: IdMap, seen: sparse.csr_matrix) -> RerankModel:
        """The same for other users, whom `base` ranks for: fold-in."""
        return replace(self, base=base, users=users, seen=seen)

    # ---- disk -------------------------------------------------------------------------------

    def save(self, folder: str | Path, texts: ItemTexts | None = None) -> Path:
        """Write the model into `folder` (made if missing); `texts` are titles and genres, if known."""
        genres = self.facts.genres
        files: dict[str, Write] = {
            TREES: self._write_trees,
            FACTS: array_writer(self.facts.values),
            GENRES: sparse_writer(genres),
        }
        facts = {"members": save_members([self.base], folder), "n_genres": genres.shape[1]}
        return write_model(self, folder, files, facts, texts, folders=(MEMBERS,))

    def _write_trees(self, file: IO[bytes]) -> None:
        file.write(self.trees.text.encode("ascii"))

    @classmethod
    def read(cls, source: ModelFolder, load: Callable[..., SavedModel], *, mapped: bool = False) -> RerankModel:
        """From a folder whose metadata has been read; `load` reads the first model.

        Raises ArtifactError, which names the file and the fault.
        """
        source.expect(cls.kind)
        seen = source.seen(mapped=mapped)
        source.check_items()
        n, digests, n_genres = source.shape[1], source.metadata.get("members"), source.metadata.get("n_genres")
        with source.named():
            if not isinstance(digests, list) or len(digests) != 1:
                raise ArtifactError("the metadata lists no first model, or several")
            if type(n_genres) is not int or not 0 <= n_genres <= _MOST_GENRES:
                raise ArtifactError(f"the metadata has n_genres = {n_genres!r:.60}, which is no number of genres")
        values = source.array(FACTS, "<f4", (n, len(OF_ITEM)))
        with source.verified(GENRES, 8 * (n + 1) + 4 * n * n_genres) as file:
            genres = _read_genres(file, (n, n_genres))
        # Only bytes with the digest of the metadata are parsed.
        with source.verified(TREES, MOST_BYTES) as file:
            file.seek(0)
            trees = Trees(_text(file.read()), len(NAMES))
        base = read_member(source, 0, digests[0], load, mapped)
        with source.named():
            facts = ItemFacts(values, genres)
            model = cls(base, trees, facts, source.users, source.items, seen, source.meta)
        if mapped:
            model.release()
        return model

    def release(self) -> None:
        """Free the memory of mapped pages that were read; they are read again if needed."""
        release(self.seen.indices, self.seen.data)
        self.base.release()


def _text(content: bytes) -> str:
    try:
        return content.decode("ascii")
    except UnicodeDecodeError:
        raise ArtifactError("it is no text of trees") from None


def _read_genres(file: Any, shape: tuple[int, int]) -> sparse.csr_matrix:
    parts = safe_files.members(file, ("indptr.npy", "indices.npy", "shape.npy"))
    stored = tuple(safe_files.read_array(file, parts["shape.npy"], "<i8", 1).tolist())
    if stored != shape:
        raise ArtifactError(f"it is for {str(stored)[:60]}, the ids and genres are {shape}")
    indptr, indices = read_pattern(file, parts, shape)
    return sparse.csr_matrix((np.ones(indices.size, np.float32), indices, indptr), shape=shape)
