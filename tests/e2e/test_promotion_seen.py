"""`compare`, `promote` and `rollback` as they are typed: what is printed, as text and as JSON, and the exit status."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import numpy as np
import pytest
from support.processes import Home, free_port
from support.stored_evaluations import add_version, stored_evaluation
from support.typed import typed

from pipeline.models.factor_model import FactorModel

pytest_plugins = ["support.homes"]

BASE = np.clip(np.random.default_rng(5).normal(0.3, 0.1, 120), 0, 1)


@pytest.fixture
def model(rng: np.random.Generator, make_model: Callable[..., FactorModel]) -> FactorModel:
    return make_model(rng)


def test_as_printed(here: Home, model: FactorModel, capsys: pytest.CaptureFixture[str]) -> None:
    run_id, _ = add_version(here, model, stored_evaluation(BASE, items=[["a", "b"]] * 120), "NMF k=10")
    add_version(here, model, stored_evaluation(BASE - 0.1, items=[["b", "c"]] * 120), "NMF k=20")
    status, out, err = typed(capsys, "promote", "rankline/1")
    assert status == 0, err
    assert "✓ better than popular: ndcg_at_10" in out
    assert "rankline/1 is the champion now, the first one" in out

    status, out, err = typed(capsys, "compare", run_id[:8], "rankline/2")
    assert status == 0, err
    assert f"A  run {run_id[:8]}  NMF k=10" in out
    assert re.search(r"(?m)^overall +120 ", out)
    assert re.search(r"(?m)^hot +40 ", out)
    assert re.search(r"(?m) 0\.33$", out)
    assert "who loses most: user " in out
    assert f"rankline/2 is worse than run {run_id[:8]}: ndcg_at_10 -0." in out

    # As JSON it goes to stdout, and not into the log besides.
    status, out, err = typed(capsys, "compare", run_id[:8], "rankline/2", "--json", "--log-format", "json")
    assert (status, json.loads(out)["b_is_better"], err) == (0, "no", "")
    status, out, err = typed(capsys, "compare", run_id[:8], "rankline/2", "--log-format", "json")
    assert (out, json.loads(err.splitlines()[-1])["metadata"]["b_is_better"]) == ("", "no")

    status, out, err = typed(
        capsys, "promote", "--force", "--reason", "a test", "--margin", "0.1", "--log-format", "json"
    )
    assert (status, out) == (0, ""), err
    line = json.loads(err.splitlines()[-1])
    assert (line["message"], line["metadata"]["version"]) == ("forced", "rankline/2")
    assert "margin 0.1" in str(line["metadata"]["checks"])
    status, out, err = typed(capsys, "rollback", "--reason", "enough")
    assert status == 0, err
    assert "rankline/1 is the champion again, after rankline/2 (enough)" in out
    assert typed(capsys, "rollback")[0] == 3

    status, _, err = typed(capsys, "promote", "--margin", "2")
    assert (status, err) == (2, "error: margin must be at least 0 and below 1, got 2.0\n")
    status, _, err = typed(capsys, "compare", "rankline/1", "rankline/2", "--metric", "mrr")
    assert status == 2
    assert "it has ndcg_at_10" in err


@pytest.mark.slow
def test_as_typed(home: Home, model: FactorModel) -> None:
    run_id, _ = add_version(home, model, stored_evaluation(BASE))
    add_version(home, model, stored_evaluation(BASE - 0.1))
    home.client().set_registered_model_alias("rankline", "champion", "1")
    done = home.rankline("promote")
    assert done.returncode == 3
    (line,) = done.stderr.splitlines()[1:]
    assert line.startswith("error: rankline/2 is not promoted: worse than the champion: ndcg_at_10")
    assert "✗ worse than the champion" in done.stdout
    assert "rankline/1 stays the champion" in done.stdout
    done = home.rankline("promote", "--force")
    assert (done.returncode, done.stderr.splitlines()[-1][:28]) == (2, "error: --force needs --reaso")
    done = home.rankline("compare", run_id[:8], "rankline/2", env={"RANKLINE_JSON": "1"})
    printed_object = json.loads(done.stdout)
    assert printed_object["a"]["run_id"] == run_id
    assert printed_object["overall"]["n_users"] == 120
    assert set(printed_object["segments"]) == {"cold", "warm", "hot"}
    assert printed_object["overlap"]["overall"] == 1
    assert printed_object["b_is_better"] == "no"


def test_a_server_that_is_down_is_4(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://ann:s3cret@127.0.0.1:{free_port()}")
    for arguments in (("promote",), ("rollback",), ("compare", "a", "b")):
        status, _, err = typed(capsys, *arguments)
        assert (status, "No MLflow server answers" in err, "s3cret" in err) == (4, True, False)
