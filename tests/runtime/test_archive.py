"""A backup's folder is the old one, the new one or none, whenever its writer is killed; a change is found by name."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeline.errors import BackupError, InputError, LockedError
from pipeline.runtime import archive as archive_module
from pipeline.runtime.archive import MANIFEST, Archive, ArchiveWriter

AT = datetime(2026, 1, 31, 2, tzinfo=UTC)


def write(root: Path, text: str) -> Archive:
    with ArchiveWriter(root, AT) as writer:
        (writer.folder / "a").mkdir()
        (writer.folder / "a" / "one.txt").write_text(text)
        (writer.folder / "two.bin").write_bytes(bytes(range(256)))
        return writer.keep({"text": text})


def contents(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir() if path.name.startswith("backup-"))


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    written = write(tmp_path / "x", "first")
    read = Archive.open(tmp_path / "x")
    assert read == written
    assert (read.facts, read.at, sorted(read.files)) == (
        {"text": "first"},
        "2026-01-31T02:00:00Z",
        ["a/one.txt", "two.bin"],
    )
    assert read.path("a/one.txt").read_text() == "first"
    assert read.names("a") == ["a/one.txt"]
    assert read.n_bytes == 5 + 256
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o700, "ids of users are in it"
    with pytest.raises(BackupError, match="lists no a/two"):
        read.path("a/two")


def test_a_second_backup_takes_the_place_of_the_first(tmp_path: Path) -> None:
    write(tmp_path / "x", "first")
    write(tmp_path / "x", "second")
    assert Archive.open(tmp_path / "x").path("a/one.txt").read_text() == "second"
    assert len(contents(tmp_path / "x")) == 1


def test_a_folder_with_other_files_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letters").write_text("mine")
    with pytest.raises(InputError, match=r"holds other files \(letters\)"), ArchiveWriter(tmp_path, AT):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["letters"]
    with pytest.raises(InputError, match="no backup in"):
        Archive.open(tmp_path / "nothing")


def test_a_failure_leaves_the_backup_before(tmp_path: Path) -> None:
    write(tmp_path / "x", "first")

    def half() -> None:
        with ArchiveWriter(tmp_path / "x", AT) as writer:
            (writer.folder / "half").write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half()
    assert Archive.open(tmp_path / "x").path("a/one.txt").read_text() == "first"
    assert len(contents(tmp_path / "x")) == 1


def test_of_two_at_once_the_second_is_refused(tmp_path: Path) -> None:
    with (
        ArchiveWriter(tmp_path / "x", AT),
        pytest.raises(LockedError, match="another backup is being written there"),
        ArchiveWriter(tmp_path / "x", AT),
    ):
        pass


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("call", range(9))
def test_a_kill_leaves_the_old_backup_or_the_new_one(tmp_path: Path, call: int, first: bool) -> None:
    """Killed at the n-th step: a file is synced, the manifest is put in place, a folder is deleted."""
    root = tmp_path / "x"
    if not first:
        write(root, "old")
    child = os.fork()
    if not child:
        n = 0

        def dying(function: Callable[..., object]) -> Callable[..., object]:
            def call_it(*arguments: object, **more: object) -> object:
                nonlocal n
                if n == call:
                    os.kill(os.getpid(), signal.SIGKILL)
                n += 1
                return function(*arguments, **more)

            return call_it

        archive_module._sync = dying(archive_module._sync)  # type: ignore[assignment]  # in a child
        Path.replace = dying(Path.replace)  # type: ignore[assignment,method-assign]  # in a child
        shutil.rmtree = dying(shutil.rmtree)  # type: ignore[assignment]  # in a child
        write(root, "new")
        os._exit(0)
    _, status = os.waitpid(child, 0)
    try:
        found = Archive.open(root).path("a/one.txt").read_text()
    except InputError:
        found = "none"
    if os.WIFSIGNALED(status):
        assert found in (("none", "new") if first else ("old", "new"))
    else:
        assert found == "new"
    assert write(root, "next").path("a/one.txt").read_text() == "next"
    assert len(contents(root)) == 1, "what was left is deleted"


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def linked(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


@pytest.mark.parametrize(
    ("name", "harm", "why"),
    [
        ("two.bin", flipped, "wrong checksum"),
        ("two.bin", lambda path: os.truncate(path, 10), "wrong checksum"),
        ("a/one.txt", Path.unlink, "is missing"),
        ("a/one.txt", linked, "is no regular file"),
    ],
)
def test_a_file_that_was_changed_is_named(tmp_path: Path, name: str, harm: Callable[[Path], None], why: str) -> None:
    archive = write(tmp_path / "x", "first")
    harm(archive.path(name))
    with pytest.raises(BackupError, match=why) as refused:
        Archive.open(tmp_path / "x")
    assert str(archive.path(name)) in str(refused.value)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda text: text[: len(text) // 2], "is no manifest of a backup"),
        (lambda text: text.replace('"first"', '"other"'), "wrong checksum"),
        (lambda text: "[]", "is no manifest"),
        (lambda text: "{" * 100_000, "is no manifest"),
        (lambda text: resigned(text, format=2), "has format 2"),
        (lambda text: resigned(text, content="../x"), "names '../x', which is not in the backup"),
        (lambda text: resigned(text, files={"/etc/passwd": {"sha256": "0", "bytes": 0}}), "names '/etc/passwd'"),
        (lambda text: resigned(text, files={"a": 1}), "is no manifest"),
    ],
)
def test_a_manifest_that_was_changed_is_refused(tmp_path: Path, change: Callable[[str], str], why: str) -> None:
    write(tmp_path / "x", "first")
    path = tmp_path / "x" / MANIFEST
    path.write_text(change(path.read_text()))
    with pytest.raises(BackupError, match=why):
        Archive.open(tmp_path / "x")


def resigned(text: str, **changes: object) -> str:
    """By somebody who writes a new digest, too."""
    manifest = json.loads(text) | changes
    del manifest["sha256"]
    return json.dumps(manifest | {"sha256": archive_module._digest(manifest)})
