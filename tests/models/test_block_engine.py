"""Fits whose rows lie in files: the bits of one process, whoever carries out the tasks, and after a death too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from pipeline.data.blocks import Block, BlockFolder
from pipeline.data.id_map import IdMap
from pipeline.data.matrix import UserItems
from pipeline.errors import ArtifactError, UsageError
from pipeline.models.als import fit_als
from pipeline.models.objective import Objective
from pipeline.models.solvers import block_steps, half_steps, nmf
from pipeline.models.solvers.block_engine import BlockEngine, HereTasks
from pipeline.models.solvers.block_steps import Unit, map_block, units_of
from pipeline.models.solvers.engine import LOCAL
from pipeline.models.solvers.nmf import Penalty, factorize
from pipeline.models.solvers.weighted import factorize_weighted

pytest.importorskip("numba")

K = 6
WEIGHTED = Objective(0.2, 1.5, 0.05, 0.03, 0.4, 0.5, dislike_weight=2.0)
BIASED = Objective(0.0, 0.0, 0.3, 0.2, biases=True, bias_prior=1.6)
PLAIN_WITH_L1 = Objective(1.0, 0.0, 0.002, 0.001, 0.3)


def matrix(n_users=300, n_items=90, seed=0) -> sparse.csr_matrix:
    """One user has most items, and one item most users."""
    rng = np.random.default_rng(seed)
    dense = rng.random((n_users, n_items)) < 0.06
    dense[7], dense[:, 3] = rng.random(n_items) < 0.9, rng.random(n_users) < 0.9
    return sparse.csr_matrix(np.where(dense, rng.integers(0, 11, dense.shape) / 2, 0).astype(np.float32))


def start(X, k=K, seed=1):
    rng = np.random.default_rng(seed)
    return rng.random((X.shape[0], k), np.float32), rng.random((k, X.shape[1]), np.float32)


def fitted(X, objective, engine, **limits):
    """W and H as bytes, and the losses."""
    limits = {"max_iter": 14, "tol": 0, **limits}
    if objective == "als":
        goal = Objective(0.1, 2.0, alpha_W=0.05, alpha_H=0.05, reg_exponent=0.5, dislike_weight=3.0)
        items = UserItems(X, IdMap(np.arange(X.shape[0])), IdMap(np.arange(X.shape[1])))
        model, result = fit_als(items, K, goal, 3, engine=None if engine is LOCAL else engine, **limits)
        return model.user_factors, model.item_factors, result.losses
    if isinstance(objective, Penalty):
        result = factorize(X, *start(X), penalty=objective, engine=engine, **limits)
    else:
        result = factorize_weighted(X, *start(X), objective, engine=engine, **limits)
    return result.W, result.H, result.losses


def same(one, other) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.fixture(autouse=True)
def many_blocks(monkeypatch):
    monkeypatch.setattr(half_steps, "PIECE", 500)


OBJECTIVES = pytest.mark.parametrize(
    "objective", [Penalty(), PLAIN_WITH_L1, WEIGHTED, BIASED, "als"], ids=["plain", "l1", "weighted", "biased", "als"]
)


@OBJECTIVES
@pytest.mark.parametrize("narrow", [False, True])
def test_it_has_the_bits_of_one_process(tmp_path, monkeypatch, objective, narrow):
    if narrow:
        monkeypatch.setattr(nmf, "NARROW_BYTES", 0)
    X = matrix()
    engine = BlockEngine(tmp_path, HereTasks(2))
    assert same(fitted(X, objective, engine), fitted(X, objective, LOCAL))
    (folder,) = (tmp_path / "blocks").iterdir()
    written = BlockFolder.open(folder)
    written.verify()
    assert len(written.rows) + len(written.columns) > 8
    assert all("levels" in block.files for block in written.rows)  # a byte a score
    # A second engine finds them; half of them are enough to go on from.
    times = {path: path.stat().st_mtime_ns for path in folder.glob("rows-*.npy")}
    (folder / "manifest.json").unlink()
    (folder / "columns-00000.json").unlink()
    assert same(fitted(X, objective, BlockEngine(tmp_path, HereTasks(1))), fitted(X, objective, LOCAL))
    assert {path: path.stat().st_mtime_ns for path in folder.glob("rows-*.npy")} == times
    assert not list((tmp_path / "steps").iterdir())
    engine.clear()
    assert not list(tmp_path.iterdir())


@OBJECTIVES
def test_a_row_that_is_split_has_the_same_bits_for_any_number_of_tasks(tmp_path, objective):
    X = matrix()
    one = fitted(X, objective, BlockEngine(tmp_path / "one", HereTasks(1), longest=30), max_iter=3)
    four = fitted(X, objective, BlockEngine(tmp_path / "four", HereTasks(4), longest=30), max_iter=3)
    assert same(one, four)
    for split, whole in zip(one, fitted(X, objective, LOCAL, max_iter=3), strict=True):
        np.testing.assert_allclose(split, whole, rtol=2e-3, atol=1e-4)


def test_a_split_block_is_cut_into_parts_and_no_other():
    rows = ((0, 9, 100), (9, 10, 70), (10, 11, 30))
    blocks = [Block("rows", number, *of, 0.0, 0.0) for number, of in enumerate(rows)]
    units = units_of("folder", blocks, 30)
    found = [(unit.block.number, unit.first, unit.end) for unit in units]
    assert found == [(0, 0, -1), (1, 0, 23), (1, 23, 46), (1, 46, 70), (2, 0, -1)]


def test_the_blocks_are_x_and_its_transpose(tmp_path):
    X = matrix()
    with BlockEngine(tmp_path, HereTasks(3), longest=30).open() as engine:
        sides = engine.sides(X, K)
    for side, expected in zip(sides, (X, X.T.tocsr()), strict=True):
        assert side.counts.tolist() == np.diff(expected.indptr).tolist()
        cells = [map_block(Unit(side.folder, block)) for block in side.blocks]
        assert np.concatenate([c.indices for c in cells]).tolist() == expected.indices.tolist()
        assert np.concatenate([c.data for c in cells]).tolist() == expected.data.tolist()
        assert [block.last for block in side.blocks] == [*(block.first for block in side.blocks[1:]), expected.shape[0]]
        for block, c in zip(side.blocks, cells, strict=True):
            assert (c.indptr + expected.indptr[block.first]).tolist() == expected.indptr[
                block.first : block.last + 1
            ].tolist()


class DiedError(RuntimeError):
    pass


@OBJECTIVES
@pytest.mark.parametrize("at", [1, 9])
def test_a_fit_whose_process_died_goes_on_where_it_was(tmp_path, objective, at):
    X, seen = matrix(), []

    def dies(iteration, loss):
        if iteration == at + 1:
            raise DiedError

    with pytest.raises(DiedError):
        fitted(X, objective, BlockEngine(tmp_path, HereTasks(1)), on_iteration=dies)
    said = []
    again = BlockEngine(tmp_path, HereTasks(2), say=said.append)
    result = fitted(X, objective, again, on_iteration=lambda iteration, loss: seen.append(iteration))
    assert seen == list(range(at + 1, 15))
    assert said == [f"the fit goes on after iteration {at}, to which an earlier one came"]
    assert same(result, fitted(X, objective, LOCAL))


@OBJECTIVES
def test_a_fit_that_has_ended_is_the_same_again_and_may_be_longer(tmp_path, objective):
    X = matrix()
    engine = BlockEngine(tmp_path, HereTasks(1))
    stalls = {"tol": 1e-2, "max_iter": 100}
    for limits in (stalls, stalls, {"max_iter": 5}, {"max_iter": 9}):
        assert same(fitted(X, objective, engine, **limits), fitted(X, objective, LOCAL, **limits))


def test_another_fit_begins_anew(tmp_path):
    X = matrix()
    engine = BlockEngine(tmp_path, HereTasks(1))
    fitted(X, Penalty(), engine, max_iter=3)
    for other, options in ((Penalty(l2_w=0.1), {}), (Penalty(), {"tol": 1e-3}), (WEIGHTED, {})):
        assert same(fitted(X, other, engine, **options), fitted(X, other, LOCAL, **options))
    Y = matrix(seed=5)
    assert same(fitted(Y, Penalty(), engine), fitted(Y, Penalty(), LOCAL))


def test_half_of_what_a_fit_goes_on_from_is_none(tmp_path):
    X = matrix()
    fitted(X, Penalty(), BlockEngine(tmp_path, HereTasks(1)), max_iter=3)
    (kept,) = (tmp_path / "fits").iterdir()
    kept.write_bytes(kept.read_bytes()[:-100])
    assert same(fitted(X, Penalty(), BlockEngine(tmp_path, HereTasks(1))), fitted(X, Penalty(), LOCAL))


@pytest.mark.parametrize("how", ["missing", "damaged", "short"])
def test_a_block_that_is_not_what_was_written_is_named(tmp_path, how):
    X = matrix()
    with BlockEngine(tmp_path, HereTasks(1)).open() as engine:
        rows, _ = engine.sides(matrix(seed=9), K, columns=False)
    unit = Unit(rows.folder, rows.blocks[0])
    file = Path(rows.folder) / unit.block.name("indices")
    content = file.read_bytes()
    if how == "missing":
        file.unlink()
    else:
        file.write_bytes(content[:-8] if how == "short" else content[:-1] + bytes([content[-1] ^ 1]))
    block_steps._mapped.clear()
    words = {"missing": "can't be read", "damaged": "is damaged", "short": "has .* bytes"}[how]
    with pytest.raises(ArtifactError, match=f"{file} {words}"):
        map_block(unit)
    assert X.nnz


def test_a_dense_matrix_is_refused(tmp_path):
    X = matrix()
    with pytest.raises(UsageError, match="sparse float32"):
        factorize(X.toarray(), *start(X), engine=BlockEngine(tmp_path, HereTasks(1)))
