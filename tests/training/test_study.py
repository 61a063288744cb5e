"""A study: what it asks for, what it keeps, and what a kill leaves of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import InputError, LockedError, UsageError
from pipeline.models.search_space import Choice, FloatRange, IntegerRange
from pipeline.training.study import AllTried, Pruned, Study, open_study

pytest.importorskip("optuna")

ROOT = Path(__file__).resolve().parents[2]
SPACE = (
    IntegerRange("n_components", 3, 90),
    FloatRange("alpha_W", 1e-6, 1.0, below=0.0),
    Choice("transform", ("none", "binary")),
)
FIRST = [
    {"n_components": 10, "alpha_W": 4e-7, "transform": "none"},
    {"n_components": 20, "alpha_W": 0.5, "transform": "binary"},
]


def value_of(options) -> float:
    """Highest at 30 components, with a little regularisation."""
    alpha = options.get("alpha_W", 0.01)
    return 1 / (1 + abs(options["n_components"] - 30)) - abs(alpha - 0.01) - (options["transform"] == "none")


def go_on(study: Study, n: int) -> None:
    while len(study.trials()) < n:
        asked = study.ask()
        study.complete(asked, value_of(asked.options))


def options_of(study: Study) -> list[dict]:
    return [dict(trial.options) for trial in study.trials()]


@pytest.fixture(scope="module")
def whole() -> list[dict]:
    """Twenty trials at one sitting: the last few go by what was found."""
    with open_study("s", SPACE, FIRST, 7) as study:
        go_on(study, 20)
        return options_of(study)


def test_the_given_points_come_first_and_the_same_seed_tries_the_same(whole) -> None:
    assert whole[:2] == [
        {"n_components": 10, "alpha_W": 0.0, "transform": "none"},
        {"n_components": 20, "alpha_W": 0.5, "transform": "binary"},
    ]
    with open_study("another name", SPACE, FIRST, 7) as study:
        go_on(study, 20)
        assert options_of(study) == whole
        best = study.best()
        assert best.value == max(trial.value for trial in study.trials())
        assert dict(best.options) == whole[best.number]
    with open_study("s", SPACE, FIRST, 8) as study:
        go_on(study, 6)
        assert options_of(study)[:2] == whole[:2]
        assert options_of(study)[2:] != whole[2:6]
    assert len({str(trial) for trial in whole}) == 20


def test_points_that_are_given_later_come_before_the_next_of_the_first(whole) -> None:
    points = [{"n_components": 40, "alpha_W": 0.25, "transform": "none"}, dict(FIRST[0])]
    with open_study("s", SPACE, FIRST, 7) as study:
        study.give(points)
        go_on(study, 1)
        assert options_of(study) == whole[:1]  # the defaults stay the first trial
        study.give([{"n_components": 50, "alpha_W": 0.25, "transform": "none"}])
        go_on(study, 5)
        # A point that was tried is passed over, and the sampler goes on behind the first points.
        assert [options["n_components"] for options in options_of(study)[1:4]] == [40, 50, 20]
        assert len({str(options) for options in options_of(study)}) == 5


def test_a_move_is_made_from_the_best_so_far(tmp_path) -> None:
    path, moves = (
        tmp_path / "tuning.db",
        [FIRST[0], FIRST[1], {"n_components": 30}, {"n_components": 60}, {"alpha_W": 1e-2}],
    )
    for n in (3, 5):  # and so when it goes on
        with open_study("s", SPACE, moves, 7, path) as study:
            go_on(study, n)
            options_drawn = options_of(study)
    assert [drawn_options["n_components"] for drawn_options in options_drawn] == [10, 20, 30, 60, 30]
    assert [drawn_options["transform"] for drawn_options in options_drawn[2:]] == ["binary"] * 3
    assert [drawn_options["alpha_W"] for drawn_options in options_drawn[2:]] == [0.5, 0.5, 0.01]


def test_of_equal_trials_the_first_is_best() -> None:
    with open_study("s", SPACE, FIRST, 7) as study:
        for _ in range(3):
            study.complete(study.ask(), 0.5)
        assert study.best().number == 0


@pytest.mark.slow
def test_sittings_add_up_to_the_whole(tmp_path, whole) -> None:
    path = tmp_path / "odd name ?%{}.db"
    for n in (1, 5, 18, 20):
        with open_study("s", SPACE, FIRST, 7, path) as study:
            go_on(study, n)
    with open_study("s", SPACE, FIRST, 7, path) as study:
        assert options_of(study) == whole
    with open_study("of other data", SPACE, FIRST, 7, path) as study:
        assert study.trials() == ()
    with open_study("s", SPACE, FIRST, 7, path, resume=False) as study:
        assert study.trials() == ()


@pytest.mark.slow
def test_a_trial_that_is_cut_short_is_tried_again(tmp_path, whole) -> None:
    path = tmp_path / "tuning.db"
    with open_study("s", SPACE, FIRST, 7, path) as study:
        go_on(study, 1)
        study.drop(study.ask())  # one of the given points
        go_on(study, 18)
        study.drop(study.ask())
    with open_study("s", SPACE, FIRST, 7, path) as study:
        assert options_of(study) == whole[:18]
        go_on(study, 20)
        assert options_of(study) == whole


def test_failed_and_pruned_trials_count(tmp_path) -> None:
    path = tmp_path / "tuning.db"
    with open_study("s", SPACE, FIRST, 7, path) as study:
        study.fail(study.ask(), "MemoryError: too large")
        assert study.best() is None
        for value in (0.5, 0.6, 0.7, 0.8, 0.6, 0.7, 0.6, 0.7):
            asked = study.ask()
            asked.report(4, value)
            study.complete(asked, value)
        asked = study.ask()
        with pytest.raises(Pruned):
            asked.report(4, 0.55)
        study.prune(asked)
    with open_study("s", SPACE, FIRST, 7, path) as study:
        trials = study.trials()
        assert [trial.state for trial in trials] == ["failed", *["complete"] * 8, "pruned"]
        assert [trial.number for trial in trials] == list(range(10))
        assert trials[0].reason == "MemoryError: too large"
        assert trials[0].value is None
        assert (trials[9].value, dict(trials[9].marks)) == (0.55, {4: 0.55})
        assert trials[1].seconds >= 0
        assert trials[1].started > 1.7e9
        assert study.best().number == 4


CHILD = """
import sys, os, signal
sys.path[:0] = [{root!r}, {tests!r}]
from pathlib import Path
from training.test_study import *
with open_study("s", SPACE, FIRST, 7, Path({path!r})) as study:
    go_on(study, 6)
    study.ask()
    print("asked", flush=True)
    {then}
"""


def child(path: Path, then: str) -> subprocess.Popen[str]:
    code = CHILD.format(root=str(ROOT), tests=str(ROOT / "tests"), path=str(path), then=then)
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_after_a_kill_the_search_goes_on_as_if_nothing_had_been(tmp_path, whole) -> None:
    path = tmp_path / "tuning.db"
    process = child(path, "os.kill(os.getpid(), signal.SIGKILL)")
    process.communicate(timeout=240)
    assert process.returncode == -signal.SIGKILL
    with open_study("s", SPACE, FIRST, 7, path) as study:
        assert options_of(study) == whole[:6]
        go_on(study, 20)
        assert options_of(study) == whole


@pytest.mark.slow
def test_one_process_a_study(tmp_path) -> None:
    path = tmp_path / "tuning.db"
    process = child(path, "import time; time.sleep(60)")
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "asked\n"
        with pytest.raises(LockedError, match="under way in another process"), open_study("s", SPACE, FIRST, 7, path):
            pass
        with open_study("another", SPACE, FIRST, 7, path) as study:
            assert study.trials() == ()
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()


def test_a_file_that_is_no_store(tmp_path) -> None:
    path = tmp_path / "tuning.db"
    path.write_text("not a database, and longer than a header of one would be" * 30)
    refused = pytest.raises(InputError, match=r"tuning.db can't keep the trials \(.*\): move it away")
    with refused, open_study("s", SPACE, FIRST, 7, path):
        pass


def test_without_optuna(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    refused = pytest.raises(UsageError, match=r'^Tuning needs Optuna, the extra "tune": pip install')
    with refused, open_study("s", SPACE, FIRST, 7):
        pass


@pytest.mark.slow
def test_no_point_is_tried_twice(tmp_path) -> None:
    """A small space is tried out whole, in one sitting or in several, and then the search ends."""
    space = (IntegerRange("n_components", 3, 5), Choice("transform", ("none", "binary")))
    first = [{"n_components": 4, "transform": "none"}, {"transform": "none"}, {"n_components": 5}]
    with open_study("s", space, first, 7) as study:
        with pytest.raises(AllTried):
            go_on(study, 100)
        points, n_drawn = options_of(study), len(study._study.get_trials())
        with pytest.raises(AllTried):
            study.ask()
        assert len(study._study.get_trials()) == n_drawn, "nothing is drawn where nothing is left"
    assert len(points) == len({str(point) for point in points}) == 6
    assert points[0] == {"n_components": 4, "transform": "none"}, "the second given point is the first one again"
    assert points[1]["n_components"] == 5
    for n in range(1, 7):
        with open_study("s", space, first, 7, tmp_path / "tuning.db") as study:
            go_on(study, n)
            assert options_of(study) == points[:n]


@pytest.mark.slow
def test_a_given_point_that_was_interrupted_is_tried_again_and_a_skipped_one_is_not(tmp_path) -> None:
    first = [FIRST[0], FIRST[0], FIRST[1]]
    path = tmp_path / "tuning.db"
    with open_study("s", SPACE, first, 7, path) as study:
        go_on(study, 1)
        study.drop(study.ask())
    with open_study("s", SPACE, first, 7, path) as study:
        study.ask()  # a kill leaves it so
    with open_study("s", SPACE, first, 7, path) as study:
        go_on(study, 3)
        assert [point["n_components"] for point in options_of(study)][:2] == [10, 20]
        assert len({str(point) for point in options_of(study)}) == 3
