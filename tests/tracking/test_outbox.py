"""A training as a folder: whole or not there, as it was written or refused, one process's at a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import ArtifactError, InputError, RanklineError
from pipeline.tracking.outbox import PendingRun, find_pending, open_pending, pending_in
from pipeline.tracking.outbox_writer import PendingRunWriter

RUN = "0123456789abcdef0123456789abcdef"


def draft(root: Path, run: str = RUN) -> PendingRunWriter:
    return PendingRunWriter(root, run, "NMF k=2", "http://127.0.0.1:5000", 1_700_000_000_000)


@pytest.fixture
def pending(tmp_path: Path) -> Path:
    """A saved run that waits to be uploaded, held by no process."""
    page = tmp_path / "page"
    (page / "pictures").mkdir(parents=True)
    (page / "report.html").write_text("<html>")
    (page / "pictures" / "loss.svg").write_text("<svg>")
    with draft(tmp_path / "unlogged") as writer:
        (writer.model / "user_features.npy").write_bytes(bytes(1000))
        writer.folder(page)
        writer.params({"k": 2})
        writer.metrics({"rmse": 0.5, "gone": float("nan")})
        writer.metrics({"seconds_total": 3}, late=True)
        writer.curve("loss", [2, 1])
        writer.tags({"a": "b", "none": None})
        made = writer.keep()
    made.close()
    return made.folder


def test_what_was_written_is_read_back(pending: Path) -> None:
    pending_run = open_pending(pending)
    facts = pending_run.facts
    assert (pending_run.run_id, facts["params"], facts["tags"]) == (RUN, {"k": "2"}, {"a": "b"})
    assert facts["metrics"]["rmse"] == 0.5
    assert facts["metrics"]["gone"] != facts["metrics"]["gone"]
    assert (facts["late_metrics"], facts["curves"]) == ({"seconds_total": 3.0}, {"loss": [2.0, 1.0]})
    assert set(facts["files"]) == {"model/user_features.npy", "files/report.html", "files/pictures/loss.svg"}
    # Anybody can look: sha256sum -c says so too.
    check = ["sha256sum", "-c", "kept.json.sha256"]
    assert subprocess.run(check, cwd=pending, capture_output=True).returncode == 0
    pending_run.remove()
    assert list(pending.parent.iterdir()) == []


def _facts(pending: Path, **changes: object) -> None:
    """Another kept.json, with the right digest of its own."""
    import hashlib

    text = json.dumps({**json.loads((pending / "kept.json").read_text()), **changes})
    (pending / "kept.json").write_text(text)
    (pending / "kept.json.sha256").write_text(hashlib.sha256(text.encode()).hexdigest() + "  kept.json\n")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda pending: (pending / "model/user_features.npy").write_bytes(b"\1" + bytes(999)), "user_features.npy"),
        (lambda pending: (pending / "files/report.html").unlink(), "report.html"),
        (lambda pending: (pending / "files/more.txt").write_text(""), "more.txt"),
        (lambda pending: (pending / "files/link").symlink_to("/etc/passwd"), "files/link is a link"),
        (lambda pending: (pending / "kept.json").write_text("{}"), "kept.json has a wrong checksum"),
        (lambda pending: (pending / "kept.json.sha256").unlink(), "kept.json.sha256"),
        (lambda pending: (pending / "kept.json.sha256").write_text(""), "kept.json has a wrong checksum"),
        (lambda pending: _facts(pending, format=9), "of another format"),
        (lambda pending: _facts(pending, params=[1]), "of another format"),
        (lambda pending: _facts(pending, files={"../../x": "0"}), "../../x"),
    ],
)
def test_what_was_changed_is_refused(pending: Path, change, said: str) -> None:
    change(pending)
    with pytest.raises(ArtifactError) as error:
        open_pending(pending)
    assert said in str(error.value)
    assert str(pending) in str(error.value)
    assert error.value.exit_status == 3
    assert pending.exists()


def test_one_process_at_a_time(pending: Path) -> None:
    program = "import sys; from pathlib import Path; from pipeline.tracking.outbox import open_pending, pending_in\n"
    program += "k = Path(sys.argv[1])\nprint(len(pending_in(k.parent)))\nopen_pending(k)"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
        holder = open_pending(pending)
        done = subprocess.run([sys.executable, "-c", program, str(pending)], capture_output=True, text=True)
        assert (done.stdout, "LockedError" in done.stderr) == ("0\n", True)
        holder.close()
        done = subprocess.run([sys.executable, "-c", program, str(pending)], capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (0, "1\n")


def test_a_draft_is_nothing_until_it_is_whole(tmp_path: Path) -> None:
    def cut_off() -> None:
        with draft(tmp_path) as writer:
            (writer.model / "user_features.npy").write_bytes(bytes(10))
            assert pending_in(tmp_path) == []
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cut_off()
    assert list(tmp_path.iterdir()) == []


def test_drafts_of_the_dead_are_swept_and_those_of_the_living_are_not(tmp_path: Path) -> None:
    def left(name: str) -> Path:
        folder = tmp_path / f".{name}.partial"
        folder.mkdir()
        (folder / ".lock").touch()
        os.utime(folder, (1, 1))
        return folder

    dead = left("a")
    with draft(tmp_path, "b") as living:
        os.utime(living.model.parent, (1, 1))
        young = tmp_path / ".c.partial"
        young.mkdir()
        draft(tmp_path)
        assert (dead.exists(), living.model.exists(), young.exists()) == (False, True, True)


def test_where_nothing_can_be_written_another_place_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    # /proc takes no folders, not even root's.
    with draft(Path("/proc/unlogged")) as writer:
        made = writer.keep()
    assert made.folder.is_relative_to(tmp_path)
    assert made.folder.parent.stat().st_mode & 0o077 == 0
    made.close()


def test_no_room_is_said_in_one_line(tmp_path: Path) -> None:
    def write() -> None:
        with draft(tmp_path):
            Path("/dev/full").write_bytes(b"x")

    with pytest.raises(RanklineError, match=r"can't be written to .*No space left.*: make room"):
        write()
    assert list(tmp_path.iterdir()) == []


def test_found_by_path_or_by_the_beginning_of_the_id(pending: Path) -> None:
    root = pending.parent
    assert find_pending(str(pending), root) == find_pending(RUN[:6], root) == pending_in(root)[0] == pending
    for wrong in (RUN[:3], "ffff", str(root), "../" + RUN):
        with pytest.raises(InputError, match="No saved training is"):
            find_pending(wrong, root)
    with draft(root, RUN[:8] + "f" * 24) as other:
        other.keep().close()
    with pytest.raises(InputError, match="2 saved trainings begin with"):
        find_pending(RUN[:6], root)


def test_the_same_run_kept_again_takes_the_place_of_the_first(pending: Path) -> None:
    with draft(pending.parent) as again:
        again.params({"k": 3})
        made: PendingRun = again.keep()
    assert made.folder == pending
    assert pending_in(pending.parent) == []
    made.close()
    assert open_pending(pending).facts["params"] == {"k": "3"}
