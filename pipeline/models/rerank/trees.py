"""`Trees`: boosted trees in LightGBM's text form, read within bounds and evaluated by numpy.

Only trees of numerical features without missing values are read; a value v goes to the left where v <= threshold. The
sum over the trees is made in their order in float64, as LightGBM makes it: predictions have the same bits. Scoring
needs no LightGBM.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ArtifactError

__all__ = ["MOST_BYTES", "Trees"]

MOST_BYTES = 1 << 24  # of the text
_MOST_TREES, _MOST_LEAVES = 2000, 256
_ROWS = 4096  # evaluated at a time
_NUMERICAL = 2  # decision_type of a numerical feature without missing values


class _Tree(NamedTuple):
    """Inner nodes (n,) and leaves (n + 1,); a child below 0 is the leaf ~child."""

    feature: NDArray[np.intp]
    threshold: NDArray[np.float64]
    left: NDArray[np.intp]
    right: NDArray[np.intp]
    value: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Trees:
    """Attributes
    ----------
    text : as LightGBM writes it; "" for no trees
    n_features : columns that `predict` takes
    """

    text: str
    n_features: int

    def __post_init__(self) -> None:
        trees = _read(self.text, self.n_features)
        width = max((tree.feature.size for tree in trees), default=0)
        shape = (len(trees), max(width, 1))
        packed = {name: np.zeros(shape, np.intp) for name in ("feature", "left", "right")}
        threshold, value = np.zeros(shape), np.zeros((len(trees), width + 1))
        packed["left"] -= 1  # a tree of one leaf
        packed["right"] -= 1
        for t, tree in enumerate(trees):
            n = tree.feature.size
            for name, array in packed.items():
                array[t, :n] = getattr(tree, name)
            threshold[t, :n], value[t, : n + 1] = tree.threshold, tree.value
        object.__setattr__(self, "_nodes", (packed["feature"], threshold, packed["left"], packed["right"], value))

    def __len__(self) -> int:
        return len(self._arrays()[0])

    def _arrays(self) -> tuple[NDArray[Any], ...]:
        nodes: tuple[NDArray[Any], ...] = self._nodes  # type: ignore[attr-defined]
        return nodes

    def predict(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Raw score of each row of `features` (n, n_features), finite: (n,)."""
        total = np.zeros(features.shape[0])
        for start in range(0, features.shape[0], _ROWS):
            total[start : start + _ROWS] = self._block(np.asarray(features[start : start + _ROWS], np.float64))
        return total

    def _block(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        feature, threshold, left, right, value = self._arrays()
        each, tree = np.arange(rows.shape[0])[:, None], np.arange(len(self))
        node = np.zeros((rows.shape[0], len(self)), np.intp)
        # A child has a higher number than its parent, so this ends.
        while (inner := node >= 0).any():
            at = np.maximum(node, 0)
            goes_left = rows[each, feature[tree, at]] <= threshold[tree, at]
            node = np.where(inner, np.where(goes_left, left[tree, at], right[tree, at]), node)
        total = np.zeros(rows.shape[0])
        for t in range(len(self)):
            total += value[t, ~node[:, t]]
        return total


def _read(text: str, n_features: int) -> tuple[_Tree, ...]:
    """The trees of the text. Raises ArtifactError for anything else than `Trees` takes."""
    if not text:
        return ()
    if len(text) > MOST_BYTES:
        raise ArtifactError(f"trees of {len(text):,} bytes are more than {MOST_BYTES:,}")
    head, *sections = text.partition("\nend of trees")[0].split("\nTree=")
    if not head.startswith("tree\n") or "\nnum_tree_per_iteration=1\n" not in head or len(sections) > _MOST_TREES:
        raise ArtifactError("it holds no trees in LightGBM's text form, or too many")
    try:
        return tuple(_tree(section, n_features) for section in sections)
    except (KeyError, ValueError, OverflowError) as error:
        raise ArtifactError(f"its trees can't be read ({' '.join(str(error).split())[:100]})") from None


def _tree(section: str, n_features: int) -> _Tree:
    facts = dict(line.split("=", 1) for line in section.splitlines() if "=" in line)
    n_leaves = int(facts["num_leaves"])
    if not 1 <= n_leaves <= _MOST_LEAVES or facts["num_cat"] != "0" or facts.get("is_linear", "0") != "0":
        raise ValueError("a tree has categories, linear leaves, no leaf or too many")
    n = n_leaves - 1
    value = np.array(facts["leaf_value"].split(" "), np.float64)
    whole = {
        name: np.array(facts[name].split(" ") if n else [], np.int64)
        for name in ("split_feature", "left_child", "right_child", "decision_type")
    }
    threshold = np.array(facts["threshold"].split(" ") if n else [], np.float64)
    if value.shape != (n_leaves,) or any(array.shape != (n,) for array in (*whole.values(), threshold)):
        raise ValueError("a tree's arrays do not fit each other")
    if not np.isfinite(value).all() or np.isnan(threshold).any() or (whole["decision_type"] != _NUMERICAL).any():
        raise ValueError("a tree has values or decisions of another kind")
    if n and not (whole["split_feature"].min() >= 0 and whole["split_feature"].max() < n_features):
        raise ValueError("a tree splits by a feature that there is not")
    for name in ("left_child", "right_child"):
        child = whole[name]
        if ((child < -n_leaves) | (child >= n) | ((child >= 0) & (child <= np.arange(n)))).any():
            raise ValueError("a tree's nodes are not in order")
    return _Tree(whole["split_feature"], threshold, whole["left_child"], whole["right_child"], value)
