"""What the factors are fitted to: one objective with one dial, as plain numbers.

    L(W, H) = ½ Σ_obs c·(x − ŷ)² + ½ w₀ Σ_unobs ŷ²
              + Σ_u λ_u·(ρ·Σ_t w_ut + ½(1 − ρ)·‖w_u‖²) + Σ_i λ_i·(ρ·Σ_t h_ti + ½(1 − ρ)·‖h_i‖²)

    ŷ = w·h        c = 1 + confidence·x, or dislike_weight where x = 0        ρ = l1_ratio
    λ_u = alpha_W·(n_u + w₀·(n_items − n_u))^ν      n_u: the user's cells; λ_i likewise

w₀ (`unobserved_weight`) is the dial: at 1 an empty cell is a score of 0 (NMF, ranking), at 0 only what was
observed counts (rating prediction), between them lies implicit-feedback weighting (Hu et al. 2008). With
w₀ = 1 and ν = 1 the penalties are scikit-learn's. ν as in Rendle et al. 2022, §3.3.

Kept with a model, since whoever folds a user in solves the same half of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from pipeline.errors import ArtifactError

if TYPE_CHECKING:  # options are checked without numpy
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Objective"]


@dataclass(frozen=True)
class Objective:
    """Attributes
    ----------
    unobserved_weight : w₀, from 0 to 1
    confidence : how much more a cell counts for each unit of its score, ≥ 0
    dislike_weight : how much an observed cell of score 0 counts, such as a dislike; at least `unobserved_weight`
    alpha_W, alpha_H, l1_ratio, reg_exponent : λ, ρ and ν of the penalties
    biases : the last two of the k components are biases (w₀ = 0 only): component k − 2 is 1 for every user
        and the item's bias for an item, k − 1 is the user's bias for a user and 1 for every item; both are
        drawn to `bias_prior` (half the mean score) by ½λ·(bias − bias_prior)², whatever ρ, and not to 0;
        the component of ones is not penalised
    bias_prior : see there
    """

    unobserved_weight: float = 1.0
    confidence: float = 0.0
    alpha_W: float = 0.0  # noqa: N815 - scikit-learn's names
    alpha_H: float = 0.0  # noqa: N815
    l1_ratio: float = 0.0
    reg_exponent: float = 1.0
    biases: bool = False
    bias_prior: float = 0.0
    dislike_weight: float = 1.0

    @property
    def plain(self) -> bool:
        """Whether it is scikit-learn's NMF objective."""
        alike = self.unobserved_weight == 1 and self.confidence == 0 and self.dislike_weight == 1
        return alike and self.reg_exponent == 1 and not self.biases

    def weights(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """c of observed cells with these scores, (n,)."""
        weights: NDArray[np.float64] = (x != 0) * (1 + self.confidence * x) + (x == 0) * self.dislike_weight
        return weights

    def as_json(self) -> dict[str, Any]:
        """For metadata.json; without a weight of dislikes where that is 1, as models of before have it."""
        return {name: value for name, value in asdict(self).items() if (name, value) != ("dislike_weight", 1)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any] | None) -> Objective:
        """What `as_json` gave; None (a model of before) is the plain one. Raises ArtifactError for anything else."""
        if values is None:
            return cls()
        kinds = {term.name: bool if term.name == "biases" else float for term in fields(cls)}
        if not isinstance(values, Mapping) or {*values, "dislike_weight"} != set(kinds):
            raise ArtifactError(f"The model's objective is not one: {values!r:.200}")
        for name, value in values.items():
            right = isinstance(value, bool) if kinds[name] is bool else _is_size(value)
            if not right:
                raise ArtifactError(f"The model's objective has {name} = {value!r:.50}")
        return cls(**values)


def _is_size(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf")
