"""`EnsembleModel`: ranks by a weighted sum of the standard scores of several models; saved, loaded and verified.

    score(u, i) = Σ_m weight_m · standard score of member m (`pipeline.models.block_scores`)

added up in float64 in the order of the members and rounded once to float32. With one member the scores are the
member's own.

Each member is saved in a folder of its own (`pipeline.models.members`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from pipeline.data.id_map import IdMap
from pipeline.data.matrix import stored_cells
from pipeline.errors import ArtifactError
from pipeline.models.block_scores import pairs_by_user, standard_scores
from pipeline.models.factor_model import FactorModel
from pipeline.models.fold_in import FoldIn
from pipeline.models.item_snapshot import ItemTexts
from pipeline.models.members import MEMBERS, MOST_MEMBERS, read_member, save_members
from pipeline.models.model_files import DEFAULT_NAMES, METADATA, Kind, ModelFolder, release
from pipeline.models.model_writer import write_model
from pipeline.models.protocols import SavedModel

__all__ = ["MOST_MEMBERS", "EnsembleModel", "MemberPart"]

_BLOCK_BYTES = 64 * 2**20  # bytes of a block of scores: three arrays of float64


class MemberPart(NamedTuple):
    """What one member adds to a score.

    Attributes
    ----------
    name : of the model, with the options that were given to it: ``ease``, ``als:n_components=128``
    weight : of the member; the weights add up to 1
    score : by the member itself, float32
    standard : its standard score
    """

    name: str
    weight: float
    score: float
    standard: float

    @property
    def contribution(self) -> float:
        """weight · standard score."""
        return self.weight * self.standard


@dataclass(frozen=True, eq=False)
class EnsembleModel:
    """Attributes
    ----------
    members : models of the same users, items and seen items
    weights : one for each member, above 0; they add up to 1
    users, items : ids of the rows and columns of `seen`
    seen : csr (n_users, n_items); a stored cell is a seen item, whatever its value; of float32 the values are scores
    meta : JSON-able facts (parameters, metrics, run), written to metadata.json
    """

    kind: ClassVar[Kind] = "ensemble"

    members: tuple[SavedModel, ...]
    weights: tuple[float, ...]
    users: IdMap
    items: IdMap
    seen: sparse.csr_matrix
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = (len(self.users), len(self.items))
        if not 1 <= len(self.members) <= MOST_MEMBERS or len(self.weights) != len(self.members):
            raise ArtifactError(
                f"An ensemble has 1 to {MOST_MEMBERS} members with a weight each, "
                f"got {len(self.members)} members and {len(self.weights)} weights"
            )
        if not all(weight > 0 for weight in self.weights) or not math.isclose(sum(self.weights), 1.0, rel_tol=1e-6):
            raise ArtifactError(f"The weights of members are above 0 and add up to 1, got {self.weights!r:.200}")
        if self.seen.shape != shape:
            raise ArtifactError(f"Seen is for {self.seen.shape}, ids for {shape}")
        for member in self.members:
            if isinstance(member, EnsembleModel):
                raise ArtifactError("A member of an ensemble can't be an ensemble")
            if (len(member.users), len(member.items)) != shape or member.items != self.items:
                raise ArtifactError(f"A member of kind {member.kind} is for other users or items than the ensemble")

    @property
    def alone(self) -> SavedModel | None:
        """The only member; None where there are several."""
        return self.members[0] if len(self.members) == 1 else None

    @property
    def users_a_block(self) -> int:
        """Number of users whose scores are held at the same time."""
        return max(1, _BLOCK_BYTES // (24 * max(1, len(self.items))))

    @cached_property
    def fold_ins(self) -> tuple[FoldIn | None, ...]:
        """How each member of factors folds users in; None for another kind."""
        return tuple(
            FoldIn(member.item_factors, member.meta) if isinstance(member, FactorModel) else None
            for member in self.members
        )

    def scores(self, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """Scores of all items for the users in `rows`, (n, n_items). A user's do not depend on the others."""
        if self.alone is not None:
            n = len(self.items)
            return self.alone.predict(np.repeat(rows, n), np.tile(np.arange(n), rows.size)).reshape(rows.size, n)
        total = np.zeros((rows.size, len(self.items)))
        seen = stored_cells(self.seen.indptr, self.seen.indices, rows)
        for member, weight in zip(self.members, self.weights, strict=True):
            total += weight * standard_scores(member, rows, seen)
        return total.astype(np.float32)

    def predict(self, user_rows: ArrayLike, item_rows: ArrayLike) -> NDArray[np.float32]:
        """Score of each pair (user_rows[i], item_rows[i]), (n,) float32. Raises RowRangeError."""
        if self.alone is not None:
            return self.alone.predict(user_rows, item_rows)
        shape = (len(self.users), len(self.items))
        return pairs_by_user(user_rows, item_rows, shape, self.users_a_block, self.scores)

    def parts(self, user_row: int, item_row: int) -> tuple[MemberPart, ...]:
        """What each member adds to the score; it is the sum of the contributions in this order, rounded once."""
        rows = np.array([user_row])
        seen = stored_cells(self.seen.indptr, self.seen.indices, rows)
        return tuple(
            MemberPart(
                str(member.meta.get("label") or member.meta.get("model") or DEFAULT_NAMES[member.kind]),
                weight,
                float(member.predict([user_row], [item_row])[0]),
                float(standard_scores(member, rows, seen)[0, item_row]),
            )
            for member, weight in zip(self.members, self.weights, strict=True)
        )

    # ---- disk -------------------------------------------------------------------------------

    def save(self, folder: str | Path, texts: ItemTexts | None = None) -> Path:
        """Write the model and its members into `folder` (made if missing); `texts` are titles and genres, if known."""
        facts = {"weights": list(self.weights), "members": save_members(self.members, folder)}
        return write_model(self, folder, {}, facts, texts, folders=(MEMBERS,))

    @classmethod
    def read(cls, source: ModelFolder, load: Callable[..., SavedModel], *, mapped: bool = False) -> EnsembleModel:
        """From a folder whose metadata has been read.

        load : reads a member: `load(folder, mapped=…)`

        Raises ArtifactError, which names the file and the fault.
        """
        source.expect(cls.kind)
        seen = source.seen(mapped=mapped)
        source.check_items()
        weights, digests = source.metadata.get("weights"), source.metadata.get("members")
        with source.named():
            if not isinstance(weights, list) or not all(type(weight) in (int, float) for weight in weights):
                raise ArtifactError(f"{METADATA} has weights = {weights!r:.60}, which are none")
            if not isinstance(digests, list) or not 1 <= len(digests) <= MOST_MEMBERS:
                raise ArtifactError(f"{METADATA} lists no members, or too many")
        members = tuple(read_member(source, i, digest, load, mapped) for i, digest in enumerate(digests))
        with source.named():
            model = cls(members, tuple(map(float, weights)), source.users, source.items, seen, source.meta)
        if mapped:
            model.release()
        return model

    def release(self) -> None:
        """Free the memory of mapped pages that were read; they are read again if needed."""
        release(self.seen.indices, self.seen.data)
        for member in self.members:
            member.release()
