"""What models share whose size is a number of factors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from pipeline.models.base import Algorithm
from pipeline.options import TrainOptions

__all__ = ["SizedAlgorithm"]


class SizedAlgorithm(Algorithm):
    """A model with the option `n_components`.

    Attributes
    ----------
    auto : what ``auto`` stands for; in a smaller matrix it is one less than the smaller side
    """

    auto: ClassVar[int]

    def label(self, options: TrainOptions, facts: Mapping[str, Any] | None = None) -> str:
        """``ALS k=64``."""
        return f"{self.display_name} k={(facts or {}).get('n_components_used', options.n_components)}"

    def components(self, options: TrainOptions, shape: tuple[int, int]) -> int:
        """k, ``auto`` resolved."""
        k = options.n_components
        return max(1, min(self.auto, min(shape) - 1)) if k == "auto" else k

    def resolved(self, options: TrainOptions, shape: tuple[int, int]) -> TrainOptions:
        """With the number of factors."""
        return replace(options, n_components=self.components(options, shape))

    def standing(self, options: TrainOptions, shape: tuple[int, int]) -> dict[str, Any]:
        """With the number of factors."""
        return {**super().standing(options, shape), "n_components": self.components(options, shape)}
