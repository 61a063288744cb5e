"""Factors of cold items: those of too few interactions to learn from, predicted from genres and tags.

A ridge regression (Hoerl & Kennard 1970) of the learned factors of well-known items on their features, as Gantner,
Drumond, Freudenthaler, Rendle & Schmidt-Thieme 2010 map attributes to factors:

    h_i ≈ b₀ + Bᵀf_i      minimises Σ_i ‖h_i − b₀ − Bᵀf_i‖² + λ‖B‖²

over the items i with `least` interactions or more. λ is the one whose predictions come nearest to the scores of a fifth
of these items, kept out for that: Σ_i (ĥ_i − h_i)ᵀWᵀW(ĥ_i − h_i) is their squared error over all users. A weight for
items with more interactions did not rank cold items better. Cold items change the factors of no other item.
What users are folded in by leaves them out of H·Hᵀ: with them in it, the lists of known items got worse.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pipeline.data.id_map import IdMap
from pipeline.errors import ArtifactError, InputError
from pipeline.models.base import Fitted
from pipeline.models.factor_model import FactorModel
from pipeline.models.fold_in import FoldIn
from pipeline.models.fold_in.way import COLD, cold_rows
from pipeline.models.item_features import ItemFeatures
from pipeline.models.item_fold_in import widened
from pipeline.models.item_snapshot import ItemTexts
from pipeline.models.protocols import SavedModel
from pipeline.models.starts import uniform_rows
from pipeline.options import TrainOptions

__all__ = ["ColdItems", "Regression", "cold_items_of", "complete", "features_for", "regression", "with_cold_items"]

LEAST = 10  # well-known items with features, to learn from
STRENGTHS = tuple(float(value) for value in np.geomspace(0.1, 1000, 13))  # values of λ to choose from
_KEPT_OUT = 0.2
_ITEMS_AT_ONCE = 65536

Float64s = NDArray[np.float64]


@dataclass(frozen=True)
class ColdItems:
    """What was done, as the run and the metadata have it.

    Attributes
    ----------
    threshold : items with fewer interactions are cold
    n_items, n_new : predicted items, and those of them without any interaction
    n_learned_from : well-known items that the regression is of
    n_genres, n_tags : features
    strength : λ
    explained : share of the squared error of scores that the features take off the mean, on the items kept out
    """

    threshold: int
    n_items: int
    n_new: int
    n_learned_from: int
    n_genres: int
    n_tags: int
    strength: float
    explained: float

    @property
    def sentence(self) -> str:
        """For the log and the report."""
        return (
            f"{self.n_items:,} items with fewer than {self.threshold} interactions ({self.n_new:,} with none) have "
            f"factors from {self.n_genres} genres and {self.n_tags} tags, learned from {self.n_learned_from:,} items "
            f"(λ = {self.strength:.3g}; {self.explained:.0%} of the variance of scores of items kept out)"
        )


def cold_items_of(model: SavedModel) -> tuple[ColdItems, frozenset[int]] | None:
    """What its metadata say, and the rows of the cold items; None for a model without such. Raises ArtifactError."""
    facts = model.meta.get(COLD)
    if facts is None:
        return None
    rows = cold_rows(model.meta, len(model.items))
    known = {field.name: facts.get(field.name) for field in fields(ColdItems)}
    if not all(isinstance(value, int | float) for value in known.values()):
        raise ArtifactError(f"The model's {COLD} are not all numbers: {known!r:.200}")
    return ColdItems(**known), frozenset(rows.tolist())


class Regression(NamedTuple):
    """h ≈ base + featuresᵀ·slopes. base : (k,); slopes : (f, k)."""

    base: Float64s
    slopes: Float64s

    def predict(self, features: sparse.csr_matrix) -> Float64s:
        """(n, k) of csr (n, f)."""
        predicted: Float64s = features @ self.slopes + self.base
        return predicted


def features_for(texts: ItemTexts | None, items: IdMap, options: TrainOptions) -> ItemFeatures | None:
    """The features that cold items of this training are predicted from; None where it asks for none.

    Raises InputError if no item has a genre or a tag.
    """
    if options.cold_items is None:
        return None
    if texts is None or not (texts.genres or texts.tags):
        raise InputError("--cold-items goes by genres and tags, and no item has any: give a file of them with --items")
    return ItemFeatures.of(texts, items)


def complete(fitted: Fitted, features: ItemFeatures | None, options: TrainOptions) -> Fitted:
    """The fit, its model `with_cold_items` if there are features. Raises InputError."""
    if features is None or options.cold_items is None:
        return fitted
    model, cold = with_cold_items(
        fitted.model, features, options.cold_items, seed=options.random_state, n_threads=options.threads
    )
    facts = {**fitted.facts, "n_cold_items": cold.n_items, "n_new_items": cold.n_new}
    # scikit-learn's estimator would have factors that it did not find.
    return replace(fitted, model=model, facts=facts, messages=(*fitted.messages, cold.sentence), estimator=None)


def with_cold_items(
    model: FactorModel, features: ItemFeatures, least: int, *, seed: int = 42, n_threads: int | None = None
) -> tuple[FactorModel, ColdItems]:
    """The model with predicted factors for cold items, and items of `features` that it does not have yet as new rows.

    Users are folded in again, so that their rows fit the new factors. Items without a feature stay as they are.

    Parameters
    ----------
    least : items with fewer interactions are cold
    seed : draws the items kept out

    Raises
    ------
    InputError
        If fewer than `LEAST` well-known items have a genre or a tag.
    """
    count = np.bincount(model.seen.indices, minlength=len(model.items))
    row_of = model.items.rows(features.ids.values, missing="negative")
    known = np.where(row_of >= 0, count[row_of], 0)
    warm = np.flatnonzero(known >= least)
    if warm.size < LEAST:
        raise InputError(
            f"--cold-items needs {LEAST} items or more with a genre or a tag and {least} interactions, to learn from, "
            f"and there are {warm.size}: lower it, or give genres (--items, or raw.movies in the warehouse)"
        )
    useful = features.known_to(warm)
    learner = _Learner(model, useful.matrix[warm], row_of[warm])
    kept_out = uniform_rows(IdMap(features.ids.values[warm]), 1, seed, "items")[:, 0] < _KEPT_OUT
    strength, explained = learner.best_strength(kept_out)
    found = learner.fit(strength)
    # The features of an item may all be rare: then nothing is known of it.
    cold = np.flatnonzero((known < least) & (np.diff(useful.matrix.indptr) > 0))
    predicted = IdMap(features.ids.values[cold])
    wide = widened(model, predicted)
    rows = wide.items.rows(predicted.values).astype(np.int64)
    non_negative = (model.meta.get("fold_in") or "non_negative") == "non_negative"
    for piece in _pieces(cold.size):
        values = found.predict(useful.matrix[cold[piece]])
        wide.item_factors[:, rows[piece]] = (np.maximum(values, 0) if non_negative else values).T
    n_genres = sum(name.startswith("genre:") for name in useful.names)
    facts = ColdItems(
        least, cold.size, int(np.count_nonzero(row_of[cold] < 0)), warm.size, n_genres,
        len(useful.names) - n_genres, strength, explained,
    )  # fmt: skip
    new = rows[row_of[cold] < 0]
    meta = {**model.meta, COLD: {**asdict(facts), "rows": rows.tolist(), "new_rows": new.tolist()}}
    x = wide.seen
    users = FoldIn(wide.item_factors, meta, compiled=None).solve(x.indptr, x.indices, x.data, n_threads)
    return replace(wide, user_factors=users, meta=meta), facts


def regression(features: sparse.csr_matrix, targets: Float64s, strength: float) -> Regression:
    """The ridge regression of `targets` (n, k) on csr (n, f), with a free intercept."""
    return _System.of(features, iter([(slice(0, len(targets)), targets)]), targets.shape[1]).solved(strength)


class _System(NamedTuple):
    """The normal equations around the means: (G + λI)·slopes = right, with G = Q·diag(values)·Qᵀ and `right` in Q."""

    values: Float64s
    vectors: Float64s
    right: Float64s
    feature_mean: Float64s
    target_mean: Float64s

    @classmethod
    def of(cls, features: sparse.csr_matrix, targets: Iterator[tuple[slice, Float64s]], k: int) -> _System:
        n, f = features.shape
        x = features.astype(np.float64)
        mean = np.asarray(x.sum(axis=0)).ravel() / n
        right, total = np.zeros((f, k)), np.zeros(k)
        for piece, values in targets:
            right += x[piece].T @ values
            total += values.sum(axis=0)
        values, vectors = np.linalg.eigh((x.T @ x).toarray() - n * np.outer(mean, mean))
        right -= np.outer(mean, total)
        return cls(np.maximum(values, 0), vectors, vectors.T @ right, mean, total / n)

    def solved(self, strength: float) -> Regression:
        slopes = self.vectors @ (self.right / (self.values + strength)[:, None])
        return Regression(self.target_mean - self.feature_mean @ slopes, slopes)


class _Learner(NamedTuple):
    """Well-known items: their features csr (n, f) and rows in the model (n,)."""

    model: FactorModel
    features: sparse.csr_matrix
    rows: NDArray[np.int32]

    def fit(self, strength: float) -> Regression:
        return self._system(np.arange(self.rows.size)).solved(strength)

    def _system(self, some: NDArray[np.intp]) -> _System:
        targets = ((piece, self._targets(some[piece])) for piece in _pieces(some.size))
        return _System.of(self.features[some], targets, self.model.n_components)

    def _targets(self, some: NDArray[np.intp]) -> Float64s:
        return self.model.item_factors[:, self.rows[some]].T.astype(np.float64)

    def best_strength(self, kept_out: NDArray[np.bool_]) -> tuple[float, float]:
        """λ, and the share of the error that it takes off the mean; the largest λ where nothing can be kept out."""
        inside, outside = np.flatnonzero(~kept_out), np.flatnonzero(kept_out)
        if not (inside.size and outside.size):
            return STRENGTHS[-1], 0.0
        w = self.model.user_factors
        gram = np.zeros((w.shape[1], w.shape[1]))
        for piece in _pieces(len(w)):
            users = w[piece].astype(np.float64)
            gram += users.T @ users
        system = self._system(inside)
        found = {strength: system.solved(strength) for strength in STRENGTHS}
        found[np.inf] = Regression(system.target_mean, np.zeros_like(system.right))
        error = dict.fromkeys(found, 0.0)
        for piece in _pieces(outside.size):
            targets, features = self._targets(outside[piece]), self.features[outside[piece]]
            for strength, candidate in found.items():
                off = candidate.predict(features) - targets
                error[strength] += float(np.sum((off @ gram) * off))
        of_mean = error.pop(np.inf)
        best = min(error, key=lambda strength: (error[strength], -strength))
        return best, 1 - error[best] / of_mean if of_mean > 0 else 0.0


def _pieces(n: int) -> Iterator[slice]:
    for start in range(0, n, _ITEMS_AT_ONCE):
        yield slice(start, min(start + _ITEMS_AT_ONCE, n))
