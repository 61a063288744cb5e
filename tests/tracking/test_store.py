"""A store that can't be used: which words and which status, and what is left on the disk."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import pytest
import sqlalchemy.exc
import typer
from support.fork import run_forked
from support.listeners import drip

from pipeline.cli.main import app, main
from pipeline.errors import RefusedError, ServerError, UsageError
from pipeline.runtime.sqlite_address import sqlite_path
from pipeline.settings import Settings
from pipeline.tracking.artifact_store import artifact_folder
from pipeline.tracking.registry import ModelVersion
from pipeline.tracking.run import run_of_mlflow, start_run
from pipeline.tracking.store import as_server_error, locked_store, open_or_make_store, open_store

pytest_plugins = ["support.homes"]


@pytest.fixture
def store(store_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a store of its own, opened."""
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    before = mlflow.get_tracking_uri()
    shutil.copy(store_template / "mlflow.db", tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    open_store(uri)
    yield uri
    mlflow.set_tracking_uri(before)


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("sqlite:////data/m.db", "/data/m.db"),
        ("sqlite:////data/m.db?timeout=60", "/data/m.db"),
        ("sqlite+pysqlite:////data/m.db?timeout=60&cache=shared", "/data/m.db"),
        ("sqlite:///file:/data/m.db?mode=ro&uri=true", "/data/m.db"),
        ("sqlite:///:memory:", None),
        ("sqlite://", None),
        ("postgresql://host/sqlite:///x", None),
    ],
)
def test_the_file_of_an_address_is_named_without_its_options(address: str, path: str | None) -> None:
    assert sqlite_path(address) == (None if path is None else Path(path))


def test_an_address_with_options_is_the_same_store_and_locked_as_one(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with locked_store(store + "?timeout=60"):
        assert sorted(path.name for path in tmp_path.iterdir()) == ["mlflow.db", "mlflow.db.lock"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store + "?timeout=60")
    assert Settings().unlogged_path == tmp_path / "unlogged"
    open_or_make_store(f"sqlite:///{tmp_path / 'new.db'}?timeout=60", print)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "mlflow.db",
        "mlflow.db.lock",
        "new.db",
        "new.db.lock",
    ]


def test_a_typing_error_in_the_path_makes_no_folder(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="tyop, the folder of MLflow's store, is not there: make it, or correct"):
        open_store(f"sqlite:///{tmp_path / 'tyop' / 'mlflow.db'}")
    assert not (tmp_path / "tyop").exists()


@pytest.mark.parametrize(
    "arguments",
    ["show", "score", "promote", "rollback", "compare rankline/1 rankline/2", "recommend 1", "why 1 2"],
)
def test_a_typing_error_in_the_name_of_the_file_makes_no_store(
    arguments: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlfow.db'}")
    monkeypatch.setenv("RANKLINE_WAREHOUSE", f"chdb://{tmp_path / 'warehouse'}")
    with pytest.raises(SystemExit) as ended:
        main(arguments.split())
    assert ended.value.code == RefusedError.exit_status
    assert f"error: {tmp_path / 'mlfow.db'}: no store there. The first training makes it" in capfd.readouterr().err
    assert not list(tmp_path.glob("mlfow*"))


def test_a_training_makes_the_store_and_says_so(tmp_path: Path) -> None:
    said: list[str] = []
    before = mlflow.get_tracking_uri()
    for _ in range(2):
        open_or_make_store(f"sqlite:///{tmp_path / 'new.db'}", said.append)
    mlflow.set_tracking_uri(before)
    assert said == [f"{tmp_path / 'new.db'} was not there: MLflow's store begins there"]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.write_bytes(b"not a database, and long enough" * 99), "file is not a database"),
        (lambda path: path.mkdir(), "is no file"),
    ],
)
def test_what_is_no_database_is_refused_at_once(make: Callable[[Path], object], words: str, tmp_path: Path) -> None:
    make(tmp_path / "m.db")
    with pytest.raises(RefusedError, match=words):
        open_store(f"sqlite:///{tmp_path / 'm.db'}")


def test_a_store_that_cannot_be_made_says_why() -> None:
    with pytest.raises(RefusedError, match=r"/proc/m\.db can't be made"):
        open_or_make_store("sqlite:////proc/m.db", print)


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv takes root's rights away")
def test_a_store_that_may_only_be_read_is_read(store: str, tmp_path: Path) -> None:
    (tmp_path / "mlflow.db.lock").unlink(missing_ok=True)
    for path, mode in ((tmp_path / "mlflow.db", 0o444), (tmp_path, 0o555)):
        path.chmod(mode)
    program = (
        "import sys, mlflow\nfrom pipeline.errors import RefusedError\n"
        "from pipeline.tracking.store import as_server_error, open_store\nopen_store(sys.argv[1])\n"
        "assert mlflow.MlflowClient().search_experiments()\n"
        "try:\n    with as_server_error(sys.argv[1]): mlflow.create_experiment('new')\n"
        "except RefusedError as error: print(error)"
    )
    rights = "-dac_override,-dac_read_search"
    command = ["setpriv", f"--inh-caps={rights}", f"--bounding-set={rights}", sys.executable, "-c", program, store]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    finally:
        tmp_path.chmod(0o755)
    assert done.returncode == 0, done.stderr
    assert "is read-only for this user: commands that read work, and this one writes" in done.stdout
    assert "Traceback" not in done.stderr, "MLflow logs one"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (sqlalchemy.exc.OperationalError("SELECT 1", {}, Exception("disk I/O error")), "disk I/O error"),
        (OSError(24, "Too many open files", "/tmp/x"), "ulimit -n"),
        (OSError(28, "No space left on device", "/tmp/x"), "make room"),
        (ModuleNotFoundError("No module named 'botocore'", name="botocore"), "needs the package boto3: pip install it"),
        (RuntimeError("at postgresql://u:hunter22@host/x"), "RuntimeError: at postgresql://host/x"),
    ],
)
def test_an_error_of_a_library_is_the_stores_and_holds_no_password(error: Exception, words: str) -> None:
    with pytest.raises(ServerError) as caught, as_server_error("postgresql://u:hunter22@host/x"):
        raise error
    text = str(caught.value)
    assert words in text
    assert "postgresql://host/x" in text
    assert "hunter22" not in text
    assert "SELECT" not in text


def test_a_fault_of_our_own_stays_one() -> None:
    with pytest.raises(AttributeError), as_server_error("sqlite:////x"):
        ModelVersion.label.fget("no version")  # type: ignore[attr-defined]
    with pytest.raises(ServerError, match="JSONDecodeError"), as_server_error("sqlite:////x"):
        json.loads("<html>")
    with pytest.raises(ServerError, match="TypeError"), as_server_error("sqlite:////x"):
        json.loads(None)  # type: ignore[arg-type]  # in a library, as of an answer that lacks something


def test_the_systems_errors_end_a_command_with_4_and_what_to_do(store: str, tmp_path: Path) -> None:
    mlflow.MlflowClient().create_registered_model("rankline")
    mlflow.MlflowClient().create_model_version("rankline", "file:///x")
    program = "import sys, tempfile\ntempfile.tempdir = sys.argv[1]\nfrom pipeline.cli.main import main\nmain(['show'])"
    done = run_forked(["-c", program, str(tmp_path / "gone")], os.environ, tmp_path, 240)
    assert done.returncode == 4, done.stderr
    assert "gone" in done.stderr
    assert "No such file or directory; is the folder there, and may this user write to it?" in done.stderr


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("s3://user:hunter22@bucket/x", "needs the package boto3"),
        ("file:///proc/nosuch", "file:///proc/nosuch/.* can't be written"),
    ],
)
def test_an_artifact_store_that_takes_nothing_is_named_before_the_fit(store: str, location: str, words: str) -> None:
    if location.startswith("s3") and importlib.util.find_spec("boto3") is not None:
        pytest.skip("boto3 is installed")
    mlflow.create_experiment("elsewhere", artifact_location=location)
    with pytest.raises(RefusedError, match=words) as caught, start_run(store, "elsewhere", None):
        raise AssertionError("the fit began")
    assert "hunter22" not in str(caught.value)
    (run,) = mlflow.search_runs(experiment_names=["elsewhere"], output_format="list")
    assert run.info.status == "FAILED"


@pytest.mark.parametrize("state", ["unknown", "deleted"])
def test_a_stale_run_of_mlflow_is_named(state: str, store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = "0" * 32
    if state == "deleted":
        client = mlflow.MlflowClient()
        run_id = client.create_run("0").info.run_id
        client.delete_run(run_id)
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    for opened in (start_run(store, "x", None), run_of_mlflow(store, None)):
        with pytest.raises(UsageError, match=f"'{run_id}' that MLFLOW_RUN_ID names .*unset MLFLOW_RUN_ID"), opened:
            raise AssertionError("it went on")


def test_an_empty_run_of_mlflow_is_none(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "")
    with run_of_mlflow(store, None) as run:
        assert run is None


@pytest.mark.parametrize("name", ["../../x", "/etc/x", "..", ".", "a/../../b", "x" * 400, "a/b", "a\nb", "ü/…"])
def test_artifacts_of_any_experiment_lie_in_a_folder_of_their_own_in_mlruns(name: str, tmp_path: Path) -> None:
    folder = artifact_folder(tmp_path / "mlflow.db", name)
    assert folder.resolve().parent == tmp_path / "mlruns"
    folder.mkdir(parents=True)
    assert folder != artifact_folder(tmp_path / "mlflow.db", name + "_")
    assert artifact_folder(tmp_path / "mlflow.db", "my runs.2") == tmp_path / "mlruns" / "my runs.2"


def test_an_experiment_named_as_a_path_stays_beside_the_store(store: str, tmp_path: Path) -> None:
    with start_run(store, "../../x", None) as run:
        run.text("note.txt", "text")
        assert mlflow.MlflowClient().list_artifacts(run.id)[0].path == "note.txt"
    assert [path.parent.name for path in (tmp_path / "mlruns").rglob("note.txt")] == ["artifacts"]


@pytest.mark.parametrize("value", ["0", "-5", "1" + "0" * 20, "nan", "inf", "soon"])
@pytest.mark.parametrize("name", [name for name in Settings.model_fields if name.endswith(("timeout", "expiry"))])
def test_a_timeout_that_is_none_ends_with_status_2(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(f"RANKLINE_{name.upper()}", value)
    with pytest.raises(SystemExit) as left:
        main(["show"])
    assert left.value.code == 2
    assert f"RANKLINE_{name.upper()}: " in capfd.readouterr().err


HEALTHY = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nOK"


@pytest.mark.parametrize("piece", [b"H", b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\n\r\nO"])
@pytest.mark.parametrize("answers", [{}, {"/health": HEALTHY}])
def test_a_server_that_sends_byte_after_byte_holds_no_command(
    answers: dict[str, bytes], piece: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.tracking.store.HELLO", 1)
    with (
        drip(piece, seconds=0.1, paths=answers) as port,
        pytest.raises(ServerError, match=r"http://127\.0\.0\.1"),
    ):
        open_store(f"http://127.0.0.1:{port}")


def test_an_endless_answer_fills_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.warehouse.transport.SMALL", 1 << 20)
    with (
        drip(b"HTTP/1.1 200 OK\r\n\r\n" + bytes(1 << 18), seconds=0) as port,
        pytest.raises(RefusedError, match="is no MLflow server \\(it sends too much\\)"),
    ):
        open_store(f"http://127.0.0.1:{port}")


@pytest.mark.parametrize("command", ["train", "tune"])
def test_mlflows_variable_names_the_experiment_below_our_own(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = typer.main.get_command(app).commands[command]  # type: ignore[attr-defined]

    def name() -> str:
        return str(parsed.make_context(command, []).params["experiment_name"])

    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mlflows")
    assert name() == "mlflows"
    monkeypatch.setenv("RANKLINE_EXPERIMENT_NAME", "ours")
    assert name() == "ours"


def test_the_experiment_of_mlflows_id_is_used_and_an_unknown_one_is_refused(tmp_path, monkeypatch):
    uri = f"sqlite:///{tmp_path / 'm.db'}"
    open_or_make_store(uri, print)
    theirs = mlflow.create_experiment("theirs", artifact_location=(tmp_path / "theirs").as_uri())
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", theirs)
    with start_run(uri, "rankline", None) as run:
        assert run.experiment_id == theirs
    with start_run(uri, "a name that was typed", None) as run:
        assert run.experiment_id != theirs
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "999")
    with pytest.raises(UsageError, match=r"'999' that MLFLOW_EXPERIMENT_ID names is not in sqlite:"):
        start_run(uri, "rankline", None).__enter__()
    mlflow.MlflowClient().delete_experiment(theirs)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", theirs)
    with pytest.raises(UsageError, match="was deleted from sqlite:"):
        start_run(uri, "rankline", None).__enter__()
