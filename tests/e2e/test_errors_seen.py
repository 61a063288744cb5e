"""Bad input and faults as a user meets them: one line with the cause, the exit status, no traceback."""

from __future__ import annotations

import fcntl
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support.processes import Home, free_port

pytest_plugins = ["support.homes"]
pytestmark = pytest.mark.slow


def rows(n: int = 300, users: int = 20, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    pairs = rng.choice(users * 60, n, replace=False)
    return [f"{p // 60},{p % 60},{1 + p % 5}" for p in pairs]


def csv(path: Path, lines: list[str], header: str = "user_id,item_id,rating") -> str:
    path.write_text("\n".join([header, *lines]) + "\n")
    return str(path)


def one_line(text: str) -> str:
    """The last line, after seeing that it is the only error and no traceback is about."""
    lines = [line for line in text.splitlines() if line.strip()]
    assert "Traceback" not in text, text
    assert sum(line.startswith("error: ") for line in lines) == 1, text
    assert lines[-1].startswith("error: "), text
    return lines[-1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--n-components", "x"], "'x' is not INTEGER|auto"),
        (["--n-components", "0"], "n_components must be auto or at least 1, got 0"),
        (["--tol", "nan"], "tol must be finite"),
        (["--transform", "sqrt"], "none|log1p|binary"),
        (["--source", "file"], "--source file needs --input"),
        (["--nope", "1"], "No such option: --nope"),
        (["--holdout", "1"], "holdout must be at least 0 and below 1"),
        (["--log-format", "xml"], "--log-format must be text or json"),
    ],
)
def test_a_wrong_option_or_value_is_2(home: Home, arguments: list[str], said: str) -> None:
    done = home.rankline("train", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in one_line(done.stderr)


@pytest.mark.parametrize(
    ("name", "lines", "header", "said"),
    [
        ("wrong.csv", rows(), "a,b,c", "Missing required columns: ['user_id', 'item_id'] in"),
        ("nan.csv", [*rows(), "1,2,nan", "3,4,-1"], "user_id,item_id,rating", "line 302 (rating nan"),
        ("fifty.csv", rows(50), "user_id,item_id,rating", "50 interaction(s), and at least 100"),
        ("none.csv", [], "user_id,item_id,rating", "none.csv"),
    ],
)
def test_input_that_is_malformed_or_too_little_is_3(
    home: Home, name: str, lines: list[str], header: str, said: str
) -> None:
    path = csv(home.folder / name, lines, header)
    done = home.rankline("train", "--source", "file", "--input", path)
    assert done.returncode == 3, done.stderr
    assert said in one_line(done.stderr)
    if header == "a,b,c":
        assert "found: ['a', 'b', 'c']" in done.stderr
    run = home.runs()[0]
    assert run.info.status == "FAILED"
    assert run.data.tags["failure"] in done.stderr
    assert not home.client().search_model_versions("name = 'rankline'")


def test_missing_and_empty_files_are_3(home: Home) -> None:
    done = home.rankline("train", "--source", "file", "--input", "nope.csv")
    assert (done.returncode, "no such file" in one_line(done.stderr)) == (3, True)
    (home.folder / "empty.csv").write_text("")
    done = home.rankline("train", "--source", "file", "--input", "empty.csv")
    assert (done.returncode, "is empty" in one_line(done.stderr)) == (3, True)


def test_dropped_rows_are_counted_and_a_sample_is_kept(home: Home) -> None:
    path = csv(home.folder / "bad.csv", [*rows(), "1,2,nan", "3,4,-1", "5,,2"])
    done = home.rankline("train", "--source", "file", "--input", path, "--on-bad-rows", "drop", "--max-iter", "5")
    assert done.returncode == 0, done.stderr
    assert "3 bad row(s) of 303 left out" in done.stderr
    run = home.runs()[0]
    assert run.data.metrics["data/n_bad_rows"] == 3
    sample = json.loads(Path(home.client().download_artifacts(run.info.run_id, "bad_rows.json")).read_text())
    assert len(sample) == 3


def test_one_user_and_string_ids_train_and_publish(home: Home) -> None:
    path = csv(home.folder / "one.csv", [f"only-one,item {i},3" for i in range(120)])
    done = home.rankline("train", "--source", "file", "--input", path)
    assert done.returncode == 0, done.stderr
    done = home.rankline("score")
    # The only user has seen every item: nothing to publish, and nothing published.
    assert done.returncode == 3
    assert "nothing to publish" in one_line(done.stderr)
    lines = [f"ann,i{i},3" for i in range(80)] + [f"bob,i{i},4" for i in range(40, 120)]
    path = csv(home.folder / "two.csv", lines)
    assert home.rankline("train", "--source", "file", "--input", path).returncode == 0
    done = home.rankline("score", "--k", "3")
    assert done.returncode == 0, done.stderr
    published = home.sql("SELECT user_id, rank, toTypeName(item_id) FROM analytics.recommendations ORDER BY ALL")
    assert published == [f"{u}\t{r}\tString" for u in ("ann", "bob") for r in (1, 2, 3)]


def test_a_server_that_cannot_be_reached_is_4_and_the_password_is_nowhere(home: Home) -> None:
    port = free_port()
    dsn = f"clickhouse://ann:s3cret-word@127.0.0.1:{port}/default"
    for command in (["train"], ["init"], ["sample"], ["sql", "SELECT 1"]):
        done = home.rankline(*command, env={"RANKLINE_WAREHOUSE": dsn})
        assert done.returncode == 4, done.stderr
        line = one_line(done.stderr)
        assert f"clickhouse://127.0.0.1:{port} " in line
        assert "RANKLINE_WAREHOUSE" in line
        assert "s3cret-word" not in done.stdout + done.stderr
    run = home.runs()[0]
    assert "s3cret-word" not in repr(run.to_dictionary())
    store = f"http://ann:s3cret-word@127.0.0.1:{port}"
    done = home.rankline("train", env={"MLFLOW_TRACKING_URI": store})
    assert done.returncode == 4
    assert f"http://127.0.0.1:{port} " in (line := one_line(done.stderr))
    assert "MLFLOW_TRACKING_URI" in line
    assert "s3cret-word" not in done.stderr


def test_the_file_stands_in_only_where_no_warehouse_answers(home: Home) -> None:
    path = csv(home.folder / "ratings.csv", rows())
    dsn = f"clickhouse://ann:s3cret@127.0.0.1:{free_port()}"
    done = home.rankline("train", "--input", path, "--max-iter", "5", env={"RANKLINE_WAREHOUSE": dsn})
    assert done.returncode == 0, done.stderr
    assert sum("No warehouse answers at" in line and path in line for line in done.stderr.splitlines()) == 1
    run = home.runs()[0]
    assert run.data.tags["fallback"] == "file"
    assert run.data.tags["source"] == "file"


def test_a_locked_embedded_warehouse_is_4_and_no_file_stands_in(home: Home) -> None:
    path = csv(home.folder / "ratings.csv", rows())
    folder = home.folder / "warehouse"
    folder.mkdir()
    with (folder / "status").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = home.rankline("train", "--input", path)
        assert done.returncode == 4
        assert "is in use by another process" in one_line(done.stderr)
    assert home.runs()[0].info.status == "FAILED"


@pytest.fixture
def silent_server() -> Iterator[int]:
    """Takes connections and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        stop = threading.Event()

        def accept() -> None:
            held = []
            server.settimeout(0.2)
            while not stop.is_set():
                try:
                    held.append(server.accept()[0])
                except TimeoutError:
                    continue
            for connection in held:
                connection.close()

        thread = threading.Thread(target=accept)
        thread.start()
        yield server.getsockname()[1]
        stop.set()
        thread.join()


def test_a_warehouse_that_hangs_ends_in_an_error(home: Home, silent_server: int) -> None:
    dsn = f"clickhouse://ann:s3cret@127.0.0.1:{silent_server}"
    done = home.rankline("sql", "SELECT 1", env={"RANKLINE_WAREHOUSE": dsn, "RANKLINE_READ_TIMEOUT": "1"})
    assert done.returncode == 4
    assert "does not answer in time" in one_line(done.stderr)


def test_a_setting_that_is_no_number_is_2(home: Home) -> None:
    done = home.rankline("sql", "SELECT 1", env={"RANKLINE_READ_TIMEOUT": "soon"})
    assert done.returncode == 2
    assert "RANKLINE_READ_TIMEOUT" in one_line(done.stderr)


def test_errors_as_json_lines(home: Home) -> None:
    done = home.rankline("score", "--log-format", "json")
    assert done.returncode == 3
    last = json.loads(done.stderr.splitlines()[-1])
    assert set(last) == {"timestamp", "level", "service", "message", "metadata"}
    assert last["level"] == "error"
    assert "No version of 'rankline' is registered yet" in last["message"]


def test_debug_shows_the_traceback(home: Home) -> None:
    done = home.rankline("train", "--source", "file", "--input", "nope.csv", "--debug")
    assert "Traceback" in done.stderr


def test_a_changed_artifact_is_3_and_the_table_stays(trained_copy: Home) -> None:
    home = trained_copy
    before = home.sql("SELECT * FROM analytics.recommendations ORDER BY user_id, rank")
    run = home.runs()[0]
    path = home.folder / "artifacts" / run.info.run_id / "artifacts" / "movie_features.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    done = home.rankline("score")
    assert done.returncode == 3
    assert "movie_features.npy has a wrong checksum" in one_line(done.stderr)
    assert home.sql("SELECT * FROM analytics.recommendations ORDER BY user_id, rank") == before


def test_unknown_users_and_models(trained: Home) -> None:
    done = trained.rankline("recommend", "no-such-user")
    assert (done.returncode, "Unknown user 'no-such-user'" in one_line(done.stderr)) == (3, True)
    done = trained.rankline("recommend", "999999", "--unknown", "popular")
    assert done.returncode == 0, done.stderr
    assert "(popular)" in done.stdout
    for model in ("rankline/99", "rankline@nobody", "nothing", "runs:/0123456789abcdef0123456789abcdef", "a/b/c"):
        done = trained.rankline("recommend", "1", "--model", model)
        assert done.returncode == 3, (model, done.stderr)
        one_line(done.stderr)
