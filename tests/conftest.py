"""What many tests share: the seeded generator, a matrix with one obvious answer, random models."""

from __future__ import annotations

import gc
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from numpy.typing import NDArray
from scipy import sparse

from pipeline.data.id_map import IdMap
from pipeline.data.interactions import Interactions
from pipeline.data.matrix import UserItems, to_matrix
from pipeline.data.prepare import PreparedInteractions, prepare_interactions
from pipeline.models.factor_model import FactorModel

SEED = 20240229

# Until all tests are collected, what is made stays: looking through it for garbage was half of the time to collect.
gc.disable()

# The commands that tests start compile the package once, and not each anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# The same examples in every run: a failure is a bug in the change, not the luck of the day.
settings.register_profile("rankline", deadline=None, derandomize=True, max_examples=100)
# For `make test-fast`.
settings.register_profile("quick", deadline=None, derandomize=True, max_examples=5)
# To look for new ones, some minutes: HYPOTHESIS_PROFILE=long pytest tests/e2e/test_fuzz.py
settings.register_profile("long", deadline=None, max_examples=2_000, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "rankline"))


# Fixtures that start a server or commands.
_PROCESSES = {"http_server_process", "own_server", "home", "trained", "trained_copy"}


def _starts_processes(item: pytest.Item) -> bool:
    """By its fixtures, or by a warehouse of the kind that is a server."""
    kinds = getattr(item, "callspec", None)
    over_http = kinds is not None and kinds.params.get("dsn") == "http"
    return over_http or not _PROCESSES.isdisjoint(getattr(item, "fixturenames", ()))


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what starts processes; longest first: a long test that begins last leaves the other cores idle."""
    for item in items:
        if _starts_processes(item):
            item.add_marker(pytest.mark.slow)

    def order(item: pytest.Item) -> tuple[float, bool]:
        takes = item.get_closest_marker("takes")
        return (-takes.args[0] if takes else 0, item.get_closest_marker("slow") is None)

    items.sort(key=order)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Files with the mark `xdist_group` of one name go to one worker: pytest 9.2 hides the mark from xdist 3.8."""
    from xdist.scheduler import LoadScopeScheduling

    @cache
    def group_of(file: str) -> str:
        mark = re.search(r'mark\.xdist_group\("([^"]+)"\)', (config.rootpath / file).read_text())
        return mark[1] if mark else ""

    class ByGroup(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid.partition("::")[0]) or nodeid

    return ByGroup(config, log) if config.getvalue("dist") == "loadgroup" else None


def pytest_collection_finish() -> None:
    """What was imported stays: no collection of garbage looks through it again."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> None:
    """Also called in the process that hands out tests to workers, which collects none."""
    gc.enable()


def pytest_make_parametrize_id(config: pytest.Config, val: object) -> str | None:
    """Name bytes by their size: an archive holds the time at which it was made, and workers must agree on names."""
    return f"{len(val)}-bytes" if isinstance(val, bytes) else None


@pytest.fixture
def rng() -> np.random.Generator:
    """The seeded generator, fresh for each test."""
    return np.random.default_rng(SEED)


@dataclass(frozen=True)
class Checkerboard:
    """User u likes every item of u's colour (u and i both even, or both odd), and the diagonal is withheld.

    The best unseen item of user u is item u, in any model worth its name: the one item of the right colour
    that is left. Ids are `10 * row` for users and `"item-<col>"`, zero-padded, for items.

    Attributes
    ----------
    n : number of users and of items
    interactions : every liked cell but the diagonal, with score 1, no times
    matrix : the same, as `UserItems`
    model : the factors that are exactly right, k = 2
    answer : (n,) the best unseen item row of each user row
    """

    n: int
    interactions: PreparedInteractions
    matrix: UserItems
    model: FactorModel
    answer: NDArray[np.int32]


def make_checkerboard(n: int = 20) -> Checkerboard:
    """A `Checkerboard` of n users and n items."""
    u, i = np.nonzero(np.add.outer(np.arange(n), np.arange(n)) % 2 == 0)
    u, i = u[u != i], i[u != i]
    names = np.array([f"item-{col:03d}" for col in range(n)])
    x = prepare_interactions(Interactions.of(10 * u, names[i])).interactions
    matrix = to_matrix(x)
    colour = np.arange(n) % 2
    w = np.eye(2, dtype=np.float32)[colour]
    model = FactorModel(w, np.ascontiguousarray(w.T), matrix.users, matrix.items, matrix.scores)
    return Checkerboard(n, x, matrix, model, np.arange(n, dtype=np.int32))


@pytest.fixture(scope="session")
def checkerboard() -> Checkerboard:
    """A 20 × 20 checkerboard with its diagonal withheld."""
    return make_checkerboard()


KINDS = ("uniform", "ties", "near_ties", "duplicated", "zero", "negative", "huge", "tiny", "mixed_scale", "sparse")


def _factors(rng: np.random.Generator, n: int, k: int, kind: str) -> NDArray[np.float32]:
    """(n, k) factors of a `kind` that is hard on a ranking in its own way."""
    x = rng.random((n, k))
    if kind == "ties":
        x = rng.integers(0, 2, (n, k)).astype(float)
    elif kind == "near_ties":
        # A few steps of float32 apart: rounding in float32 sums decides the order, and must not.
        x = np.ones((n, k)) * rng.random(k) + rng.integers(-2, 3, (n, k)) * 2.0**-24
    elif kind == "duplicated":
        x = x[rng.integers(0, max(1, n // 3), n)] if n else x
    elif kind == "zero":
        x = np.zeros((n, k))
    elif kind == "negative":
        x -= 0.5
    elif kind == "huge":
        x *= 1e16
    elif kind == "tiny":
        x *= 1e-15
    elif kind == "mixed_scale":
        x *= 10.0 ** rng.integers(-12, 13, (n, 1))
    elif kind == "sparse":
        x *= rng.random((n, k)) < 0.2
    return x.astype(np.float32)


def random_model(
    rng: np.random.Generator,
    n_users: int = 30,
    n_items: int = 40,
    k: int = 3,
    *,
    kind: str = "uniform",
    density: float = 0.2,
    text_ids: bool = False,
) -> FactorModel:
    """A model of random factors of one of the `KINDS`, with a random share of items seen.

    Ids are ascending and are not the rows: 100, 107, 114, … for users and 5, 8, 11, … for items; with
    `text_ids` the same as zero-padded text.
    """
    users, items = 100 + 7 * np.arange(n_users), 5 + 3 * np.arange(n_items)
    if text_ids:
        return random_model_of(
            rng, IdMap([f"u{v:07d}" for v in users]), IdMap([f"i{v:07d}" for v in items]), k, kind, density
        )
    return random_model_of(rng, IdMap(users), IdMap(items), k, kind, density)


def random_model_of(
    rng: np.random.Generator, users: IdMap, items: IdMap, k: int, kind: str = "uniform", density: float = 0.2
) -> FactorModel:
    """`random_model` for given ids."""
    shape = (len(users), len(items))
    return FactorModel(
        _factors(rng, shape[0], k, kind),
        np.ascontiguousarray(_factors(rng, shape[1], k, kind).T),
        users,
        items,
        sparse.csr_matrix(rng.random(shape) < density, dtype=np.float32),
        {"algorithm": "NMF", "parameters": {"n_components": k}, "metrics": {"rmse": 0.5}},
    )


@pytest.fixture(scope="session")
def make_model() -> Callable[..., FactorModel]:
    """`random_model`, as a fixture: tests can't import this file."""
    return random_model
