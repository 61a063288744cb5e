"""`ItemFeatures`: genres and tags of items as a sparse matrix of indicators."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pipeline.data.id_map import IdMap
from pipeline.models.item_snapshot import ItemTexts

__all__ = ["MOST_FEATURES", "ItemFeatures"]

# The regression solves a dense system of so many unknowns: 8 MB in float64.
MOST_FEATURES = 1000


@dataclass(frozen=True, eq=False)
class ItemFeatures:
    """What is known of items without any interaction.

    Attributes
    ----------
    ids : the n items that have a genre or a tag
    names : of the f features, genres first: ``genre:Comedy``, ``tag:funny``
    matrix : csr (n, f) float32, 1 where the item has the feature
    """

    ids: IdMap
    names: tuple[str, ...]
    matrix: sparse.csr_matrix

    @classmethod
    def of(cls, texts: ItemTexts, items: IdMap) -> ItemFeatures:
        """Of all items in `texts`. Their ids are text there; here they are of the kind of `items`.

        Tags are compared without upper case. Raises InputError for an id that can't be of that kind.
        """
        held: dict[str, dict[str, None]] = {}
        for kind, values in (("genre", texts.genres), ("tag", texts.tags)):
            for item, names in values.items():
                for name in names:
                    if shown := " ".join(name.split()):
                        held.setdefault(item, {})[f"{kind}:{shown if kind == 'genre' else shown.lower()}"] = None
        listed = items.same_kind(np.array(list(held) or np.zeros(0, "<U1"), dtype=np.str_))
        ids, first = np.unique(listed, return_index=True)
        by_row = [held[item] for item in np.array(list(held), dtype=object)[first].tolist()]
        names = tuple(sorted({name for of_item in by_row for name in of_item}))
        position = {name: j for j, name in enumerate(names)}
        columns = [sorted(position[name] for name in of_item) for of_item in by_row]
        indptr = np.append(0, np.cumsum([len(row) for row in columns])).astype(np.int64)
        indices = np.array([j for row in columns for j in row], np.int32)
        matrix = sparse.csr_matrix((np.ones(indices.size, np.float32), indices, indptr), shape=(ids.size, len(names)))
        return cls(IdMap(ids), names, matrix)

    def known_to(self, rows: NDArray[np.intp]) -> ItemFeatures:
        """The features that two of these items or more have; of more than `MOST_FEATURES` the most frequent."""
        count = np.asarray(self.matrix[rows].sum(axis=0)).ravel()
        order = np.lexsort((np.arange(count.size), -count))[:MOST_FEATURES]
        kept = np.sort(order[count[order] >= 2])
        return ItemFeatures(self.ids, tuple(self.names[j] for j in kept.tolist()), self.matrix[:, kept].tocsr())
