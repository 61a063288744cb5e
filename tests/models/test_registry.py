"""The registry: names in any case, what is refused and how, and that a lookup is light."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pipeline.errors import UsageError
from pipeline.models import registry
from pipeline.options import TrainOptions
from pipeline.training.train import checked_algorithm


@pytest.mark.parametrize("text", ["NMF", "nmf", "Nmf", " nmf "])
def test_names_are_known_in_any_case(text: str) -> None:
    assert registry.find(text) is registry.DEFAULT
    assert registry.find("ITEM_KNN").name == "item-knn"


def test_an_unknown_name_is_refused_with_those_there_are() -> None:
    known = ", ".join(("NMF", *registry.names()[1:]))
    with pytest.raises(UsageError, match=rf"^--algorithm is one of {known}, or auto, got 'magic'$"):
        registry.find("magic")


@pytest.mark.parametrize("text", ["rankline@champion", "rankline/3", "runs:/abc", "."])
def test_a_version_is_refused_with_both_options_named(text: str) -> None:
    with pytest.raises(UsageError, match=r"--algorithm names a kind of model .* that is --model MODEL"):
        registry.find(text)


def test_an_option_that_the_model_has_not_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^most popular has no --n-components; options of its own: none$"):
        checked_algorithm(TrainOptions(algorithm="popular", n_components=5))
    with pytest.raises(UsageError, match=r"^NMF has no --shrinkage; "):
        checked_algorithm(TrainOptions(shrinkage=3))
    assert checked_algorithm(TrainOptions(algorithm="recent", half_life_days=7)).name == "recent"


def test_the_help_of_the_option_names_every_model() -> None:
    (option,) = [entry for entry in TrainOptions.__dataclass_fields__.values() if entry.name == "algorithm"]
    for name in registry.names():
        assert name in option.metadata["help"].lower()


@pytest.mark.slow
def test_a_lookup_loads_nothing_heavy() -> None:
    program = (
        "import sys; from pipeline.models.registry import find; find('nmf'); find('item-knn'); "
        "print([name for name in ('numpy', 'scipy', 'sklearn', 'numba') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
