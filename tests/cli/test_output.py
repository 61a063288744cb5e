"""How a result is printed: one object for programs, lines and tables for people, nothing that a terminal obeys."""

from __future__ import annotations

import json
import re

import pytest

from pipeline.cli.output.console import Console
from pipeline.cli.output.escape import printable, printable_json
from pipeline.cli.output.metrics import metric_blocks
from pipeline.cli.output.model import Exact, Output, SideBySide, Styled, Table
from pipeline.cli.output.next_step import after_training, after_version
from pipeline.cli.output.rows import row_blocks
from pipeline.cli.output.tables import print_table
from pipeline.models import registry

HOSTILE = "Alien\x1b[2J\u202e\u2066\x07\x9b1m\ud800\u200fB"
UNSAFE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def test_what_a_terminal_would_obey_is_spelled_out() -> None:
    assert printable(HOSTILE) == r"Alien\x1b[2J\u202e\u2066\x07\x9b1m\ud800\u200fB"
    assert printable("a\tb\r\nc") == "a b  c"
    plain = "Amélie (Le fabuleux destin d'Amélie Poulain) 千と千尋 👨‍👩‍👧 :smile: [red]"
    assert printable(plain) == plain


def test_json_stands_for_the_same_value() -> None:
    line = printable_json(json.dumps(HOSTILE, ensure_ascii=False))
    assert json.loads(line) == HOSTILE
    assert not UNSAFE.search(line)


def output() -> Output:
    table = Table(
        ["item", "title"], [[HOSTILE, Styled(HOSTILE, "green")], None, ["2", ":smile: [red]x"]], title=HOSTILE
    )
    blocks = [HOSTILE, table, SideBySide((table, table)), Exact("a\tb")]
    return Output("done", {"title": HOSTILE}, blocks)


def test_text_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    Console().show(output())
    out, err = capsys.readouterr()
    assert err == ""
    assert not UNSAFE.search(out.replace("a\tb", ""))
    assert "a\tb\n" in out
    assert ":smile: [red]x" in out


def test_one_object_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    Console(as_json=True).show(output())
    out, err = capsys.readouterr()
    assert (json.loads(out), err, out.count("\n")) == ({"title": HOSTILE}, "", 1)


def test_a_line_for_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    Console("json").show(output())
    out, err = capsys.readouterr()
    line = json.loads(err)
    assert (out, line["message"], line["metadata"]) == ("", "done", {"title": HOSTILE})
    assert not UNSAFE.search(err.rstrip("\n"))


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_sentences_and_errors_are_escaped(capsys: pytest.CaptureFixture[str], log_format: str) -> None:
    with Console(log_format).working() as reporter:
        reporter.say(HOSTILE)
    Console.failed(HOSTILE, ["--log-format", log_format])
    err = capsys.readouterr().err
    assert err.count("Alien") == 2
    assert not UNSAFE.search(err)


def test_no_nan_in_json() -> None:
    with pytest.raises(ValueError, match="JSON"):
        Console(as_json=True).show(Output("done", {"x": float("nan")}))


def test_rows_of_a_query() -> None:
    columns, rows = ["id", "title"], [(1, "a\tb\nc"), (2, HOSTILE)]
    assert row_blocks(columns, rows, "tsv") == [
        Exact("id\ttitle"),
        Exact("1\ta b c"),
        Exact(f"2\t{printable(HOSTILE)}"),
    ]
    assert [json.loads(block.text)["title"] for block in row_blocks(columns, rows, "json")] == ["a\tb\nc", HOSTILE]  # type: ignore[union-attr]
    assert row_blocks([], [], "tsv") == []


@pytest.mark.parametrize(
    ("better", "says", "not_said"),
    [
        ("yes", "rankline promote rankline/3, then rankline score", "tune"),
        ("no", "rankline tune", "rankline promote"),
        ("unclear", "rankline tune", "rankline promote"),
        (None, "rankline score --model rankline/3", "promote"),
    ],
)
def test_what_is_next_after_a_training(better: str | None, says: str, not_said: str) -> None:
    line = after_training("rankline/3", better, step_follows=False)
    assert says in line
    assert not_said not in line
    assert after_training("rankline/3", better, step_follows=True) == ""


def test_the_next_step_fits_the_kind_of_model() -> None:
    """A list for everybody has nothing to tune and passes no gate; another model is tuned as that model."""
    popular = after_training("rankline/3", "no", step_follows=False, algorithm=registry.find("popular"))
    assert popular.startswith("rankline train ")
    assert "tune" not in popular
    knn = after_training(
        "rankline/3", "no", step_follows=False, name=" --name shop", algorithm=registry.find("item-knn")
    )
    assert knn.startswith("rankline tune --algorithm item-knn --name shop ")


def test_what_is_next_after_a_look_at_a_version() -> None:
    assert after_version("rankline/3", "yes") == "rankline promote rankline/3"
    assert after_version("rankline/3", "yes", is_champion=True) == ""
    assert "rankline promote" not in after_version("rankline/3", "no")
    assert after_version("rankline/3", None) == after_version("", "yes") == ""


def test_a_narrow_terminal_cuts_titles_and_no_number(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    table = Table(["item", "title", "score"], [["123456", "T" * 40, "1.234"]], left=("title",), short=("title",))
    Console().show(Output("done", {}, [SideBySide((table, table))]))
    out = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert (out.count("123456"), out.count("1.234"), out.count("…")) == (2, 2, 2)
    assert max(len(line.rstrip()) for line in out.splitlines()) <= 60


def test_a_narrow_terminal_breaks_titles_of_columns_and_no_name(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table of a training fits into 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    metrics = {f"holdout/{name}": 0.5 for name in ("ndcg_at_10", "hit_rate_at_10", "coverage_at_10")}
    metrics |= {f"baseline/{name}/ndcg_at_10": 0.4 for name in ("popular", "recent", "item-knn")}
    metrics |= {"interval/ndcg_at_10_low": 0.3, "interval/ndcg_at_10_high": 0.6}
    Console().show(Output("trained", {}, metric_blocks(metrics)))
    lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    assert max(map(len, lines)) <= 80
    assert [line.split()[0] for line in lines[-3:]] == [name for name in metrics if name.startswith("holdout/")]
    assert "0.5000 [0.3000, 0.6000]" in lines[-3]


def test_a_line_of_a_table_has_no_blanks_at_its_end(capsys):
    print_table(Table(["status", "finding"], [["ok", "x" * 300], ["ok", "short"]], left=("status", "finding")))
    lines = capsys.readouterr().out.splitlines()
    assert any(line.endswith("short") for line in lines)
    assert not [line for line in lines if line.endswith(" ")]
