"""`rankline score` on a warehouse that moves on, with the version that is the champion."""

from __future__ import annotations

import subprocess
import sys

import pytest
from support.processes import ROOT, Home

pytest_plugins = ["support.homes"]
pytestmark = pytest.mark.slow


def test_the_champion_is_scored_without_what_was_seen_since_and_strangers_get_what_is_popular(
    trained_copy: Home,
) -> None:
    home = trained_copy
    client = home.client()
    first = client.get_model_version("rankline", "1")
    again = f"import mlflow; mlflow.register_model({first.source!r}, 'rankline')"
    assert home.python(again).returncode == 0
    (best,) = home.sql("SELECT item_id FROM analytics.recommendations WHERE user_id = 1 AND rank = 1")
    done = home.rankline(
        "sql", f"INSERT INTO raw.ratings VALUES (1, {best}, 5, now64(3)), (900001, {best}, 5, now64(3))"
    )
    assert done.returncode == 0, done.stderr

    done = home.rankline("score", "--k", "5")
    assert done.returncode == 0, done.stderr
    assert "rankline/2 (the newest version; none is promoted yet)" in done.stderr
    assert "1 user(s) of the warehouse are not in the model" in done.stdout
    assert home.sql(f"SELECT count() FROM analytics.recommendations WHERE user_id = 1 AND item_id = {best}") == ["0"]
    assert home.sql("SELECT count(), any(model_version) FROM analytics.recommendations") == ["3355\t2"]

    client.set_registered_model_alias("rankline", "champion", "1")
    done = home.rankline("score", "--k", "5", "--unknown", "popular")
    assert done.returncode == 0, done.stderr
    assert "rankline/1 (the champion)" in done.stderr
    strangers = "SELECT rank, source FROM analytics.recommendations WHERE user_id = 900001 ORDER BY rank"
    assert home.sql(strangers) == [f"{rank}\tpopular" for rank in range(1, 6)]
    # They have seen this one, and it is not what they get.
    statement = f"SELECT count() FROM analytics.recommendations WHERE item_id = {best} AND user_id IN (1, 900001)"
    assert home.sql(statement) == ["0"]
    assert home.sql("SELECT DISTINCT model_version FROM analytics.recommendations_previous") == ["2"]


def test_every_option_can_come_from_the_environment() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "pipeline", "--help"], capture_output=True, text=True, cwd=ROOT
    ).stdout
    files = {path.stem for path in (ROOT / "pipeline/cli/commands").glob("*.py")} - {"__init__"}
    commands = shown[shown.index("The warehouse:") : shown.index("Options:")]
    assert {line.split()[0] for line in commands.splitlines() if line.startswith("  ")} == files
    code = (
        "from pipeline.cli.main import app; import typer\n"
        "for name, command in typer.main.get_command(app).commands.items():\n"
        "    for p in command.params:\n"
        "        # Where another command's option of that name takes other values, the environment says nothing.\n"
        "        own = [('recommend', '--unknown'), ('evaluate', '--model'), ('evaluate', '--k'), ('why', '--model')]\n"
        "        # What takes all rules away is typed, and what a key allows.\n"
        "        own += [('rules', '--replace'), ('key', '--scope')]\n"
        "        # What an experiment is started with is typed: RANKLINE_SPLIT is a training's.\n"
        "        own += [('experiment', o) for o in ('--versions', '--split', '--winner', '--channel', '--decision', "
        "'--off-policy', '--days')]\n"
        "        helps = p.param_type_name != 'option' or p.name in ('help', 'help_all')\n"
        "        if not helps and (name, p.opts[0]) not in own:\n"
        "            expected = 'RANKLINE_' + p.opts[0].lstrip('-').replace('-', '_').upper()\n"
        "            variables = [p.envvar] if isinstance(p.envvar, str) else p.envvar  # MLflow's own may follow\n"
        "            assert variables[0] == expected, (name, p.name, p.envvar)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_addresses_of_a_store_show_no_password() -> None:
    from pipeline.errors import UsageError
    from pipeline.runtime.redact import address_of_store

    assert address_of_store("postgresql://ann:s3cret@db:5432/mlflow") == "postgresql://db:5432/mlflow"
    assert address_of_store("http://ann:s3cret@host") == "http://host"
    assert address_of_store("sqlite:////home/a/mlflow.db") == "sqlite:////home/a/mlflow.db"
    assert address_of_store("sqlite:////home/a@b:c@d/mlflow.db") == "sqlite:////home/a@b:c@d/mlflow.db"
    for uri in ("postgresql:///mlflow?user=ann&password=s3cret", "`http://ann:s3cret@host", "http:/ann:s3cret@host"):
        assert "s3cret" not in address_of_store(uri)
    for uri in ("http://127.0.0.1:port", "http://ann:s3c/ret@host:5000", "http://ann:4567/s3cret@host:5000"):
        with pytest.raises(UsageError) as raised:
            address_of_store(uri)
        assert "s3c" not in str(raised.value)


def test_the_readme_has_no_blank_left() -> None:
    assert "BENCHMARK_TABLES" not in (ROOT / "README.md").read_text()


def test_what_a_server_repeats_is_taken_out(monkeypatch: pytest.MonkeyPatch) -> None:
    import base64

    from pipeline.runtime.redact import without_secrets

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://ann:s3%2Fcret@host")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "t0ken.abc")
    monkeypatch.setenv("RANKLINE_WAREHOUSE", "clickhouse://bob:hunter2@host")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "")
    basic = base64.b64encode(b"ann:s3/cret").decode()
    said = without_secrets(f"no: s3/cret s3%2Fcret {basic} t0ken.abc hunter2; ann, host")
    assert said.replace("=", "") == "no: … … … … …; ann, host"
    monkeypatch.setenv("RANKLINE_WAREHOUSE", "clickhouse://bob:abc@host")
    assert without_secrets("abc") == "abc"
