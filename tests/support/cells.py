"""Interactions and matrices in a form that tests compare."""

from __future__ import annotations

__all__ = ["cells", "parts", "untimed"]


def cells(x):
    """{(user id, item id): score}, and that no cell comes twice."""
    users, items = x.user_ids.ids(x.users).tolist(), x.item_ids.ids(x.items).tolist()
    result = dict(zip(zip(users, items, strict=True), x.scores.tolist(), strict=True))
    assert len(result) == len(x)
    return result


def untimed(rows):
    return [(*row[:3], None) for row in rows]


def parts(matrix):
    """The matrix as bytes and ids: equal only when everything is, bit for bit."""
    csr = matrix.scores
    return (
        csr.shape,
        csr.indptr.tobytes(),
        csr.indices.tobytes(),
        csr.data.tobytes(),
        matrix.users.digest,
        matrix.items.digest,
    )
