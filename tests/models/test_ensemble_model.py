"""The saved ensemble: its scores beside a slow twin, its lists, its files, and what is refused."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse
from support import naive_ensemble

from pipeline.data.id_map import IdMap
from pipeline.data.matrix import UserItems
from pipeline.errors import ArtifactError, UsageError
from pipeline.models import block_scores
from pipeline.models.block_scores import standard_scores
from pipeline.models.ease import fit_ease
from pipeline.models.ensemble_model import EnsembleModel
from pipeline.models.factor_model import FactorModel
from pipeline.models.item_knn import fit_item_knn
from pipeline.models.popularity import popular_model
from pipeline.ranking.explain import explain
from pipeline.ranking.scorer import Scorer


@pytest.fixture
def matrix(rng) -> UserItems:
    scores = sparse.random(12, 30, 0.25, "csr", np.float32, random_state=rng)
    scores.data = rng.integers(1, 11, scores.nnz).astype(np.float32) / 2
    return UserItems(scores, IdMap(100 + np.arange(12)), IdMap([f"i{i:02d}" for i in range(30)]))


def factors(matrix: UserItems, rng, scale: float = 1.0) -> FactorModel:
    w, h = rng.normal(size=(12, 3)) * scale, rng.normal(size=(3, 30))
    w[3] = 0  # all of this user's scores are 0
    h[:, 5] = h[:, 6]  # two items always tie
    w, h, meta = w.astype(np.float32), h.astype(np.float32), {"model": "als", "fold_in": "linear"}
    return FactorModel(w, h, matrix.users, matrix.items, matrix.scores, meta)


@pytest.fixture
def ensemble(matrix, rng) -> EnsembleModel:
    members = (factors(matrix, rng), fit_ease(matrix, 3.0), fit_item_knn(matrix, 6), popular_model(matrix))
    return EnsembleModel(
        members, (0.4, 0.3, 0.2, 0.1), matrix.users, matrix.items, matrix.scores, {"model": "ensemble"}
    )


@pytest.mark.parametrize("top", [200, 7])
def test_scores_are_those_of_the_twin(ensemble, monkeypatch, top):
    monkeypatch.setattr(block_scores, "TOP", top)
    scores = ensemble.scores(np.arange(12))
    for row in range(12):
        assert scores[row] == pytest.approx(naive_ensemble.combined(ensemble, row, top), abs=1e-6)


def test_all_items_beyond_the_top_have_the_same_score(ensemble, monkeypatch):
    monkeypatch.setattr(block_scores, "TOP", 5)
    for row in range(12):
        seen = ensemble.seen[row].indices
        for member in ensemble.members[:2]:
            standard = standard_scores(member, np.array([row]), (np.zeros(seen.size, np.intp), seen))[0]
            unseen = np.delete(standard, seen)
            assert np.count_nonzero(unseen > unseen.min()) <= 4


def test_a_user_s_scores_do_not_depend_on_the_block(ensemble, monkeypatch):
    monkeypatch.setattr(block_scores, "TOP", 7)
    together = ensemble.scores(np.arange(12))
    alone = np.vstack([ensemble.scores(np.array([row])) for row in range(12)])
    assert together.tobytes() == alone.tobytes()


def test_huge_tiny_and_constant_scores_are_harmless(matrix, rng):
    members = [factors(matrix, rng, scale) for scale in (1e30, 1e-30, 0.0)]
    model = EnsembleModel(tuple(members), (0.5, 0.25, 0.25), matrix.users, matrix.items, matrix.scores)
    scores = model.scores(np.arange(12))
    assert np.isfinite(scores).all()
    constant = standard_scores(members[2], np.arange(12), (np.zeros(0, np.intp), np.zeros(0, np.intp)))
    assert not constant.any()
    for row in (0, 3):
        assert scores[row] == pytest.approx(naive_ensemble.combined(model, row), abs=1e-5)


def test_a_user_who_has_seen_everything_and_one_who_has_seen_nothing(matrix, rng):
    cells = sparse.csr_matrix(np.vstack([np.ones((1, 30)), np.zeros((11, 30))]), dtype=np.float32)
    members = tuple(replace(factors(matrix, rng), seen=cells) for _ in range(2))
    model = EnsembleModel(members, (0.5, 0.5), matrix.users, matrix.items, cells)
    scorer = Scorer(model, "ensemble")
    assert scorer.recommend(100).items.tolist() == []
    assert len(scorer.recommend(101, 50).items) == 30
    assert np.isfinite(model.scores(np.arange(2))).all()


def test_one_member_ranks_as_it_does_alone(matrix, rng):
    for member in (factors(matrix, rng), fit_ease(matrix, 3.0), popular_model(matrix)):
        model = EnsembleModel((member,), (1.0,), matrix.users, matrix.items, matrix.scores)
        rows = np.arange(12)
        ours, theirs = Scorer(model).recommend_rows(rows, 9), Scorer(member).recommend_rows(rows, 9)
        assert (ours.items.tobytes(), ours.scores.tobytes()) == (theirs.items.tobytes(), theirs.scores.tobytes())
        every = member.predict(np.repeat(rows, 30), np.tile(np.arange(30), 12))
        assert model.scores(rows).tobytes() == every.tobytes()
        ours, theirs = explain(model, 0, 1), explain(member, 0, 1)
        assert (ours.kind, ours.score, ours.past_items) == (theirs.kind, theirs.score, theirs.past_items)


def test_parts_add_up_to_the_score(ensemble):
    for row, item in ((0, 4), (3, 6), (7, 29)):
        told = explain(ensemble, row, item)
        parts = ensemble.parts(row, item)
        assert np.float32(sum(part.contribution for part in parts)) == told.score == ensemble.predict([row], [item])[0]
        assert {part.name for part in told.members} == {"als", "ease", "item-knn", "popular"}
        assert [abs(p.contribution) for p in told.members] == sorted((abs(p.contribution) for p in parts), reverse=True)


@pytest.mark.parametrize("mapped", [False, True])
def test_saved_and_loaded_it_is_the_same(ensemble, tmp_path, mapped):
    again = Scorer.load(ensemble.save(tmp_path), mapped=mapped).model
    assert [member.kind for member in again.members] == ["factors", "item_item", "item_item", "popularity"]
    assert again.weights == ensemble.weights
    assert again.scores(np.arange(12)).tobytes() == ensemble.scores(np.arange(12)).tobytes()
    # The ids are held once.
    assert all(member.users is again.users and member.items is again.items for member in again.members)


def test_another_model_saved_into_the_folder_leaves_no_members(ensemble, tmp_path):
    ensemble.save(tmp_path)
    ensemble.members[3].save(tmp_path)
    assert not (tmp_path / "members").exists()
    assert Scorer.load(tmp_path).model.kind == "popularity"


def spoil_weights(folder):
    change(folder, weights=[0.4, 0.3, 0.2, 0.2])


def spoil_one_weight(folder):
    change(folder, weights=[0.5, 0.5, 0.0, 0.0])


def spoil_no_numbers(folder):
    change(folder, weights=["0.4", 0.3, 0.2, 0.1])


def spoil_no_members(folder):
    change(folder, members=[], weights=[])


def spoil_many(folder):
    change(folder, members=["x"] * 1000)


def spoil_a_member(folder):
    change(folder / "members" / "0", model="ease")


def spoil_an_array(folder):
    path = folder / "members" / "0" / "user_features.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")


def spoil_with_another_member(folder):
    shutil.copytree(folder / "members" / "0", folder / "members" / "1", dirs_exist_ok=True)


def spoil_with_a_link(folder):
    shutil.move(folder / "members" / "2", folder.parent / "elsewhere")
    (folder / "members" / "2").symlink_to(folder.parent / "elsewhere")


def spoil_with_an_ensemble(folder):
    shutil.copytree(folder, folder.parent / "copy")
    shutil.rmtree(folder / "members" / "0")
    shutil.copytree(folder.parent / "copy", folder / "members" / "0")
    digest = hashlib.sha256((folder / "members" / "0" / "metadata.json").read_bytes()).hexdigest()
    change(folder, members=[digest, *json.loads((folder / "metadata.json").read_text())["members"][1:]])


def change(folder, **facts):
    path = folder / "metadata.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **facts}))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_weights, "add up to 1"),
        (spoil_one_weight, "above 0"),
        (spoil_no_numbers, "weights = "),
        (spoil_no_members, "no members, or too many"),
        (spoil_many, "no members, or too many"),
        (spoil_a_member, "members/0/metadata.json has a wrong checksum"),
        (spoil_an_array, "user_features.npy has a wrong checksum"),
        (spoil_with_another_member, "members/1/metadata.json has a wrong checksum"),
        (spoil_with_a_link, "is a link out of its folder"),
        (spoil_with_an_ensemble, "a member can't be of kind ensemble"),
    ],
)
def test_what_was_changed_is_refused(ensemble, tmp_path, spoil, message):
    folder = ensemble.save(tmp_path / "model")
    spoil(folder)
    with pytest.raises(ArtifactError, match=message):
        Scorer.load(folder)


def test_a_member_of_other_items_is_refused(ensemble, matrix, rng):
    other = replace(factors(matrix, rng), items=IdMap([f"x{i:02d}" for i in range(30)]))
    with pytest.raises(ArtifactError, match="other users or items"):
        replace(ensemble, members=(other,), weights=(1.0,))
    with pytest.raises(ArtifactError, match="can't be an ensemble"):
        replace(ensemble, members=(ensemble,), weights=(1.0,))


def test_new_users_are_ranked_by_the_members_that_can(ensemble, matrix, monkeypatch):
    history = UserItems(matrix.scores[:4], IdMap(np.arange(4)), matrix.items)
    folded = Scorer(ensemble).for_users(history)
    assert folded.model.weights == pytest.approx(ensemble.weights)
    # The factors of the fixture were not fitted; the other members give a user of the training the same list again.
    fitted = Scorer(replace(ensemble, members=ensemble.members[1:], weights=(0.5, 0.3, 0.2)))
    again = fitted.for_users(history).recommend_rows(np.arange(4), 6)
    assert again.items.tobytes() == fitted.recommend_rows(np.arange(4), 6).items.tobytes()

    from pipeline.ranking import new_users

    whole = new_users.with_users

    def unable(model, *more):
        if model.kind == "popularity":
            raise UsageError("not for new users")
        return whole(model, *more)

    monkeypatch.setattr(new_users, "with_users", unable)
    left = whole(ensemble, history)
    assert [member.kind for member in left.members] == ["factors", "item_item", "item_item"]
    assert left.weights == pytest.approx((4 / 9, 3 / 9, 2 / 9))
