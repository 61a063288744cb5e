"""Who is told of what, and how often: a target that is down, one process after another, a clock set back."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support.told import Webhook, command_target

from pipeline.errors import UsageError
from pipeline.monitoring.alerts import (
    Alert,
    Notifier,
    drift_past,
    gate_refused,
    log_aged,
    notify,
    table_aged,
    training_failed,
)
from pipeline.monitoring.notify_targets import parse_target
from pipeline.options import NotifyOptions

NIGHT = datetime(2026, 11, 29, 2, tzinfo=UTC)
HOUR = timedelta(hours=1)
OLD = table_aged("analytics.recommendations", 50.0, 36.0)
FAILED = training_failed("rankline", "0123456789abcdef", "DataGateError")
SECRET = "T00/B00/hunter2s3cret"


def test_an_alert_is_told_once_a_window_and_another_at_once(tmp_path: Path) -> None:
    with Webhook() as hook:
        told = notify([OLD], [hook.url], tmp_path, now=NIGHT)
        assert (told.sent, told.repeated) == (((hook.url, 1),), 0)
        # Another process, an hour later.
        told = notify([OLD, FAILED], [hook.url], tmp_path, now=NIGHT + HOUR)
        assert (told.sent, told.repeated) == (((hook.url, 1),), 1)
        assert notify([OLD, FAILED], [hook.url], tmp_path, now=NIGHT + 19 * HOUR).repeated == 2
        told = notify([OLD, OLD, FAILED], [hook.url], tmp_path, now=NIGHT + 20.5 * HOUR)
        assert (told.sent[0][1], told.repeated) == (1, 1)
        # A clock that was set back by a year says nothing about when it was sent.
        assert notify([OLD], [hook.url], tmp_path, now=NIGHT - 365 * 24 * HOUR).sent
    assert [[alert["kind"] for alert in letter["alerts"]] for letter in hook.letters] == [
        ["table_age"], ["training_failed"], ["table_age"], ["table_age"],
    ]  # fmt: skip
    assert hook.letters[0]["alerts"][0] == OLD.as_json
    assert (hook.letters[0]["service"], hook.letters[0]["at"]) == ("rankline", NIGHT.isoformat())


def test_a_target_that_is_down_is_tried_again_and_the_others_are_not_told_twice(tmp_path: Path) -> None:
    with Webhook() as up, Webhook(status=500) as down:
        targets = [up.url, f"{down.url}/{SECRET}"]
        told = notify([OLD], targets, tmp_path, now=NIGHT)
        assert told.failed == ((f"{down.url}/…", "HTTP 500"),)
        assert "the next run tries again" in " ".join(told.sentences)
        assert "hunter2" not in " ".join(told.sentences) + (tmp_path / "alerts.json").read_text()
        down.status = 200
        told = notify([OLD], targets, tmp_path, now=NIGHT + HOUR)
        assert told.sent == ((f"{down.url}/…", 1),)
        assert (len(up.letters), len(down.letters)) == (1, 2)


def test_two_webhooks_of_one_server_are_two_targets(tmp_path: Path) -> None:
    with Webhook() as hook:
        targets = [f"{hook.url}/ops", f"{hook.url}/shop"]
        assert len(notify([OLD], targets, tmp_path, now=NIGHT).sent) == 2
        assert notify([OLD], targets, tmp_path, now=NIGHT + HOUR).repeated == 1
        assert sorted(hook.paths) == ["/ops", "/shop"]


@pytest.mark.parametrize(
    "content", [b"{", b"[]", b'{"sent": [[1, 2]]}', b'{"sent": 3}', b"\xff", b"[" * 9000, b"x" * 2_000_000]
)
def test_a_damaged_file_of_what_was_sent_is_said_and_replaced(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "alerts.json").write_bytes(content)
    with Webhook() as hook:
        told = notify([OLD], [hook.url], tmp_path, now=NIGHT)
        assert told.sent
        assert "may be sent again" in " ".join(told.sentences)
        assert notify([OLD], [hook.url], tmp_path, now=NIGHT).repeated == 1


def test_where_nothing_can_be_written_alerts_are_sent_and_one_process_remembers(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with Webhook() as hook:
        notifier = Notifier([hook.url], file / "below")  # no folder can be there, for root either
        told = notifier.notify([OLD], NIGHT)
        assert told.sent
        assert any("can't be written" in note for note in told.notes)
        assert notifier.notify([OLD], NIGHT + HOUR).repeated == 1
        assert notify([OLD], [hook.url], file / "below", now=NIGHT + HOUR).sent


def test_a_secret_of_the_environment_is_masked_wherever_it_got_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANKLINE_WAREHOUSE", "clickhouse://anna:hunter2-s3cret@db/shop")
    monkeypatch.setenv("RANKLINE_NOTIFY", "https://hooks.example.org/services/T00-B00-verysecret")
    alert = drift_past("rankline", "psi_scores", "of hunter2-s3cret, T00-B00-verysecret", {"value": 0.5})
    with Webhook() as hook:
        notify([alert], [hook.url], tmp_path, now=NIGHT)
    assert "s3cret" not in json.dumps(hook.letters)
    assert "verysecret" not in json.dumps(hook.letters)
    assert hook.letters[0]["alerts"][0]["facts"]["value"] == 0.5


def test_a_program_reads_the_letter(tmp_path: Path) -> None:
    target, got = command_target(tmp_path)
    assert notify([OLD, FAILED], [target], tmp_path, now=NIGHT).sent == (("command:told.sh", 2),)
    letter = json.loads(got.read_text())
    assert [alert["subject"] for alert in letter["alerts"]] == ["analytics.recommendations", "rankline"]


def test_nothing_is_asked_of_anybody_without_alerts_or_targets(tmp_path: Path) -> None:
    assert notify([], ["https://127.0.0.1:9/"], tmp_path) == notify([OLD], [], tmp_path)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("facts", "what"),
    [
        ({"user_id": 7}, "user_id: an alert tells no such fact"),
        ({"cause": "a\nb"}, "one line"),
        ({"cause": "x" * 501}, "one line"),
    ],
)
def test_an_alert_tells_no_facts_but_those_that_are_nobodys(facts: dict[str, Any], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        Alert("drift", "rankline", "a sentence", facts)
    with pytest.raises(ValueError, match="no kind"):
        Alert("weather", "rankline", "a sentence")  # type: ignore[arg-type]


def test_the_five_kinds_in_words() -> None:
    assert FAILED.message == "The last training of rankline failed (DataGateError): run 01234567 in MLflow says why"
    assert gate_refused("shop", ["9", "8", "7"]).message == (
        "The gate refused the last 3 versions of shop (9, 8, 7): the champion grows old"
    )
    assert "50.0 hours old (limit: 36)" in OLD.message
    assert "1,200 interaction(s) wait" in log_aged(30, 26, 1200).message
    assert drift_past("rankline", "psi_popularity", "it is past", {}).subject == "rankline psi_popularity"


@pytest.mark.parametrize(
    "text",
    [
        "ftp://host/s3cret", "https:///s3cret", "https://host:port/s3cret", "https://user:s3cret@host/", "s3cret",
        "smtp://user:s3cret@host", "smtp://user:s3cret@host?to=a@b", "smtp://s3cret@host?from=a@b&to=no-address",
        "smtp://host?from=a@b&to=a@b%0d%0aBcc:s3cret@b", "smtp://host?from=a@b&to=c@d&tls=s3cret", "command:",
        "command:'s3cret", "command:/no/such/s3cret-program", "https://host/ s3cret", "smtps://host/s3cret?from=a@b&to=c@d",
    ],
)  # fmt: skip
def test_what_is_no_target_is_refused_without_being_shown(text: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_target(text)
    assert "s3cret" not in str(error.value).replace("s3cret-program", "")
    assert "--notify" in str(error.value)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://example.org/hooks/s3cret?token=s3cret", "https://example.org/…"),
        ("slack+https://hooks.slack.com/services/T0/B0/s3cret", "slack+https://hooks.slack.com/…"),
        ("http://[::1]:9000", "http://[::1]:9000"),
        ("smtp://anna:s3cret@mail:587?from=a%2Bb@x.org&to=c@x.org,d@x.org", "smtp://mail:587 to 2 address(es)"),
        ("command:/bin/cat --token s3cret", "command:cat"),
    ],
)
def test_what_is_shown_of_a_target(text: str, shown: str) -> None:
    target = parse_target(text)
    assert target.shown == shown
    assert "s3cret" not in repr(target)


def test_several_targets_of_one_variable_and_none_in_a_repr() -> None:
    text = "https://a.org/s3cret  command:/bin/cat --flag 'two words' smtp://h?from=a@b&to=c@d"
    options = NotifyOptions(notify=(text, "slack+https://b.org/s3cret"))
    assert options.targets == (
        "https://a.org/s3cret", "command:/bin/cat --flag 'two words'", "smtp://h?from=a@b&to=c@d",
        "slack+https://b.org/s3cret",
    )  # fmt: skip
    assert "s3cret" not in repr(options)
    with pytest.raises(UsageError) as error:
        NotifyOptions(notify="s3cret://host")
    assert "s3cret" not in str(error.value)
