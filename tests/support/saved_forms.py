"""A small model of each form that is saved, the files that it has of its own, and a change to one of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pipeline.data.matrix import UserItems
from pipeline.models.ease import fit_ease
from pipeline.models.item_knn import fit_item_knn
from pipeline.models.popularity_model import PopularityModel
from support import hostile

__all__ = ["FORMS", "OWN", "model_of", "resaved"]

# The last two are of kind item_item, in its other forms.
FORMS = ("factors", "item_item", "popularity", "dense", "dual")
OWN = {
    "factors": ("user_features.npy", "movie_features.npy"),
    "item_item": ("similarity.npz",),
    "popularity": ("item_scores.npy",),
    "dense": ("item_weights.npy",),
    "dual": ("user_kernel.npy", "leverage.npy"),
}


def model_of(kind, make_model, rng, weights="score"):
    base = make_model(rng, 7 if kind == "dual" else 12, 9, 4, density=0.4, text_ids=True)
    seen = base.seen.copy()
    seen.data = rng.integers(0, 11, seen.nnz).astype(np.float32) / 2
    if kind == "factors":
        return replace(base, seen=seen)
    if kind == "item_item":
        return fit_item_knn(UserItems(seen, base.users, base.items), 5, 1.0, weights)
    if kind in ("dense", "dual"):
        return fit_ease(UserItems(seen, base.users, base.items), 2.0)
    count = np.bincount(seen.indices, minlength=9).astype(np.float32)
    return PopularityModel(count, base.users, base.items, seen, {"model": "recent"})


def resaved(folder, name, **changed):
    with np.load(folder / name, allow_pickle=False) as arrays:
        contents = {key: arrays[key] for key in arrays}
    contents.update(changed)
    np.savez(folder / name, **{key: value for key, value in contents.items() if value is not None})
    hostile.sign(folder)
