"""Small models with known lists, and looks at lists."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from scipy import sparse

from pipeline.data.id_map import IdMap
from pipeline.models.factor_model import FactorModel
from support import naive

KINDS = ("uniform", "ties", "near_ties", "duplicated", "zero", "negative", "huge", "tiny", "mixed_scale", "sparse")


def small_model(w, h, seen=(), users=None, items=None):
    """A model of these factors; `seen` is a list of (user row, item row)."""
    w, h = np.array(w, np.float32), np.array(h, np.float32)
    shape = (w.shape[0], h.shape[1])
    cells = np.array(list(seen), int).reshape(-1, 2)
    seen = sparse.csr_matrix((np.ones(len(cells), np.int8), (cells[:, 0], cells[:, 1])), shape=shape)
    return FactorModel(
        w,
        h,
        IdMap(np.arange(shape[0]) if users is None else users),
        IdMap(np.arange(shape[1]) if items is None else items),
        seen,
    )


def ranked(top, row=0):
    """One row of a `TopK` as (item row, score), with its padding checked."""
    items, scores = top.items[row], top.scores[row]
    n = int(np.count_nonzero(items >= 0))
    assert (items[:n] >= 0).all()
    assert (items[n:] == -1).all()
    assert (scores[n:] == 0).all()
    return list(zip(items[:n].tolist(), scores[:n].tolist(), strict=True))


def expected(model, row, k, hidden=()):
    return [(item, float(score)) for item, score in naive.top_k(model, row, k, hidden)]


filters = st.lists(st.integers(0, 24), max_size=25, unique=True)
