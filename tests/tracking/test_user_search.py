"""The runs that hold a user, in a store that others use too."""

from __future__ import annotations

from pathlib import Path

import mlflow
import numpy as np
import pytest
from support.processes import Home
from support.stored_evaluations import add_version, stored_evaluation

from pipeline.errors import ServerError
from pipeline.jobs.forget import ForgetResult
from pipeline.tracking.user_search import find_user_records

pytest_plugins = ["support.homes"]


@pytest.fixture
def store(home: Home, make_model, rng, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """A store with one version of ours; its run, and a user that it holds."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", home.env["MLFLOW_TRACKING_URI"])
    mlflow.set_tracking_uri(home.env["MLFLOW_TRACKING_URI"])
    model = make_model(rng)
    run_id, _ = add_version(home, model, stored_evaluation(np.full(20, 0.3)))
    return run_id, str(model.users.values[0])


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("s3://bucket/others", "it needs the package boto3"),
        ("nosuch://others", "no store of that kind is known here"),
    ],
)
def test_runs_of_others_out_of_reach_are_named_by_experiment(store, home: Home, tmp_path: Path, address, reason):
    run_id, user = store
    client = home.client()
    others = client.create_experiment("others", artifact_location=address)
    for _ in range(3):
        client.set_terminated(client.create_run(others).info.run_id)
    records = find_user_records(user, tmp_path)
    assert [record.run_id for record in records.runs] == [run_id]
    scheme = address.partition("://")[0]
    assert records.unread == (f"experiment 'others', 3 run(s) at {scheme}:// ({reason})",)
    result = ForgetResult("chdb:///w", (), (), deleted=True, holders=records, store="sqlite:///m.db")
    with pytest.raises(
        ServerError, match=r"The rows are deleted, but what these hold is not known: experiment 'others'"
    ):
        result.check()


def test_a_damaged_file_is_named_with_its_run(store, home: Home, tmp_path: Path):
    run_id, user = store
    (home.folder / "artifacts" / run_id / "artifacts" / "metadata.json").write_text("{")
    assert find_user_records(user, tmp_path).unread == (f"run {run_id} (metadata.json: JSONDecodeError)",)
