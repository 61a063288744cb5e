"""Every model of the registry, as a parameter of tests."""

from __future__ import annotations

import pytest

from pipeline.models.registry import algorithms

__all__ = ["EACH"]

# What JAX fits is slow: JAX takes seconds to begin.
EACH = [pytest.param(one, id=one.name, marks=[pytest.mark.slow] if one.name == "neumf" else []) for one in algorithms()]
