"""One epoch of stochastic gradient descent on biased factors. Importing it imports numba."""

from __future__ import annotations

from typing import Any

from pipeline.kernels.arguments import RatedCells
from pipeline.kernels.jit import jit_reassociating

__all__ = ["epoch"]


@jit_reassociating
def epoch(cells: RatedCells, P: Any, Q: Any, rate: Any, user_ridge: Any, item_ridge: Any) -> None:
    """Step along the gradient of ½(r − ŷ)² + ½·user_ridge_u·‖p_u‖² + ½·item_ridge_i·‖q_i‖² at each cell.

    ŷ is the product of the first k numbers of p_u and q_i, plus the last of each: their biases.

    P, Q : (n, k + 1) float32, changed
    rate : float32; user_ridge, item_ridge : (n,) float32
    """
    k = P.shape[1] - 1
    for place in range(cells.order.size):
        cell = cells.order[place]
        u = cells.users[cell]
        i = cells.items[cell]
        product = P[u, k] + Q[i, k]
        for t in range(k):
            product += P[u, t] * Q[i, t]
        step = rate * (cells.scores[cell] - product)
        of_user = 1 - rate * user_ridge[u]
        of_item = 1 - rate * item_ridge[i]
        for t in range(k):
            p = P[u, t]
            q = Q[i, t]
            P[u, t] = of_user * p + step * q
            Q[i, t] = of_item * q + step * p
        P[u, k] = of_user * P[u, k] + step
        Q[i, k] = of_item * Q[i, k] + step
