"""Artifacts of somebody who means harm: refused in a line, in bounded memory, with nothing run and nothing left."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support import hostile

from pipeline.errors import ArtifactError
from pipeline.models.factor_model import FILES, FactorModel

W, H, SEEN, METADATA = FILES


@pytest.fixture
def folder(make_model, rng, tmp_path) -> Path:
    return make_model(rng, 12, 9, 4, text_ids=True, density=0.4).save(tmp_path / "model")


def test_the_folder_is_good_until_it_is_spoilt(folder):
    hostile.sign(folder)
    FactorModel.load(folder)
    hostile.npy(W, hostile.header(hostile.plain("(12, 4)")) + hostile.BODY)(folder)
    hostile.rezip(lambda z, m: [z.writestr(n, d) for n, d in m.items()])(folder)
    hostile._text("[[1.5e300]]")(folder)
    for mapped in (False, True):
        assert not FactorModel.load(folder, mapped=mapped).user_factors.any()


@pytest.mark.parametrize("name", hostile.ALL)
def test_refused_in_a_line(folder, name, monkeypatch):
    monkeypatch.chdir(folder.parent)
    hostile.ALL[name](folder)
    for mapped in (False, True):
        with pytest.raises(ArtifactError) as caught:
            FactorModel.load(folder, mapped=mapped)
        message = str(caught.value)
        assert str(folder) in message
        assert message.isprintable()
        assert len(message) < 400 + 2 * len(str(folder))
        assert caught.value.exit_status == 3
        assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert not Path("ran").exists()


def test_a_link_within_the_folder_is_a_file_like_another(folder):
    """As volumes of Kubernetes have them."""
    (folder / "..data").mkdir()
    for name in FILES:
        (folder / name).rename(folder / "..data" / name)
        (folder / name).symlink_to(Path("..data") / name)
    FactorModel.load(folder)
    linked = folder.with_name("link")
    linked.symlink_to(folder)
    FactorModel.load(linked, mapped=True)


def test_what_is_checked_is_what_is_read(folder, monkeypatch):
    """Whoever swaps a file after its checksum was taken comes too late."""
    from pipeline.models import safe_files

    real = safe_files.sha256
    before = FactorModel.load(folder).user_factors.copy()

    def swap(file):
        digest = real(file)
        other = np.full((12, 4), 7, np.float32)
        np.save(folder / "other.npy", other)
        (folder / "other.npy").replace(folder / W)
        return digest

    monkeypatch.setattr(safe_files, "sha256", swap)
    for mapped in (False, True):
        assert np.array_equal(FactorModel.load(folder, mapped=mapped).user_factors, before)
        np.save(folder / W, before)


@pytest.mark.slow
def test_in_bounded_memory(make_model, rng, tmp_path):
    """All of them in one process that may take 1 GiB of address space more than it has to begin with.

    Memory that was taken and given back shows in the peak: 64 MiB is above what 16 MiB of text take when refused,
    and far below any of the harms.
    """
    folders = []
    for i, (name, spoil) in enumerate(hostile.ALL.items()):
        folder = make_model(rng, 12, 9, 4, text_ids=True, density=0.4).save(tmp_path / str(i))
        spoil(folder)
        folders.append((name, str(folder)))
    code = """
import json, resource, sys
from pathlib import Path
from pipeline.models.factor_model import FactorModel
from pipeline.errors import ArtifactError
def status(key):
    return int(Path("/proc/self/status").read_text().split(key)[1].split()[0]) * 1024
limit = status("VmSize:") + (1 << 30)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
took = {}
for name, folder in json.load(sys.stdin):
    for mapped in (False, True):
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
        before = status("VmHWM:")
        try:
            FactorModel.load(folder, mapped=mapped)
            took[name] = "loaded"
        except ArtifactError:
            took.setdefault(name, 0)
            took[name] = max(took[name], status("VmHWM:") - before)
print(json.dumps(took))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(folders), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    took = json.loads(done.stdout)
    assert set(took) == set(hostile.ALL)
    large = {name: took.pop(name) for name in ("sixteen megabytes of lists", "an id of 16 million characters")}
    assert {name: bytes for name, bytes in took.items() if bytes == "loaded" or bytes > 64 << 20} == {}
    assert max(large.values()) < 600 << 20
    shutil.rmtree(tmp_path)
