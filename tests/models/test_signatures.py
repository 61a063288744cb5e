"""Signed models: what is signed, what is refused and how it is said, and changing a key."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import shutil
import subprocess
from base64 import b64decode
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.processes import ROOT
from support.signing import FILE_VARIABLE, NEW, OLD, OTHER, VARIABLE, keys

from pipeline.errors import ArtifactError, SignatureError, UsageError
from pipeline.models.ensemble_model import EnsembleModel
from pipeline.models.model_files import load_ids
from pipeline.models.saved_model import load_item_snapshot, load_saved_model
from pipeline.models.signatures import SIGNATURE, SigningKeys
from pipeline.tracking.pyfunc import Recommender


@pytest.fixture
def model(make_model, rng):
    return make_model(rng, 8, 9, 3)


@pytest.fixture
def signed(model, tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv(VARIABLE, keys(old=OLD))
    return model.save(tmp_path / "signed")


def loads(folder: Path) -> bool:
    """Whether all ways to a model's files take it."""
    ways = [
        lambda: load_saved_model(folder),
        lambda: load_ids(folder),
        lambda: load_item_snapshot(folder),
        lambda: Recommender().load_context(SimpleNamespace(artifacts={"model": str(folder)})),
    ]
    refused = 0
    for way in ways:
        try:
            way()
        except SignatureError:
            refused += 1
    assert refused in (0, len(ways))
    return not refused


def test_without_keys_nothing_is_signed_and_nothing_is_asked(model, signed, tmp_path, monkeypatch):
    monkeypatch.delenv(VARIABLE)
    plain = model.save(tmp_path / "plain")
    assert not (plain / SIGNATURE).exists()
    assert (plain / "metadata.json").read_bytes() == (signed / "metadata.json").read_bytes()
    (signed / SIGNATURE).write_text("damaged")
    assert loads(plain)
    assert loads(signed)
    assert not (model.save(signed) / SIGNATURE).exists()  # of the model that was saved here before


def test_the_signature_is_the_hmac_of_the_metadata(signed):
    content = json.loads((signed / SIGNATURE).read_text())
    metadata = (signed / "metadata.json").read_bytes()
    assert content == {
        "format": 1,
        "key": "old",
        "hmac_sha256": hmac.new(b64decode(OLD), metadata, hashlib.sha256).hexdigest(),
    }
    assert loads(signed)


def test_a_key_is_changed_without_a_gap(model, signed, tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, keys(new=NEW, old=OLD))
    assert loads(signed)
    by_new = model.save(tmp_path / "new")
    assert json.loads((by_new / SIGNATURE).read_text())["key"] == "new"
    monkeypatch.setenv(VARIABLE, keys(new=NEW))
    assert loads(by_new)
    assert not loads(signed)
    with pytest.raises(SignatureError, match=r"signed with the key 'old', which RANKLINE_SIGNING_KEYS does not have"):
        load_saved_model(signed)
    monkeypatch.setenv(VARIABLE, keys(old=OTHER))
    with pytest.raises(SignatureError, match="wrong signature"):
        load_saved_model(signed)


def change_metadata(folder: Path) -> None:
    path = folder / "metadata.json"
    path.write_text(path.read_text().replace('"n_items": 9', '"n_items":  9'))


def write_new_digests(folder: Path) -> None:
    """What somebody does who can write the folder and has no key."""
    path = folder / "movie_features.npy"
    path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\x40")
    metadata = json.loads((folder / "metadata.json").read_text())
    metadata["files"][path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    (folder / "metadata.json").write_text(json.dumps(metadata))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / SIGNATURE).unlink(), r"is not signed .*train it anew with the keys"),
        (change_metadata, "wrong signature"),
        (write_new_digests, "wrong signature"),
        (lambda folder: (folder / SIGNATURE).write_text("{}"), "can't be read as a signature"),
        (lambda folder: (folder / SIGNATURE).write_text("[" * 900), "can't be read as a signature"),
        (lambda folder: (folder / SIGNATURE).write_bytes(b"x" * 2000), "can't be read as a signature"),
        (
            lambda folder: (folder / SIGNATURE).write_text('{"format": 1, "key": "old", "hmac_sha256": ""}'),
            "wrong signature",
        ),
        (
            lambda folder: (folder / SIGNATURE).write_text('{"format": 1, "key": ["old"], "hmac_sha256": "00"}'),
            "can't be read as a signature",
        ),
    ],
)
def test_what_is_not_signed_is_refused(signed, spoil, message):
    spoil(signed)
    with pytest.raises(SignatureError, match=message) as refused:
        load_saved_model(signed)
    assert str(signed) in str(refused.value)
    assert not loads(signed)


def test_arrays_are_covered_by_their_digests(signed):
    path = signed / "movie_features.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(ArtifactError, match="wrong checksum"):
        load_saved_model(signed)


def test_members_are_covered_and_are_no_models_of_their_own(model, tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, keys(old=OLD))
    members = (model, model)
    ensemble = EnsembleModel(members, (0.5, 0.5), model.users, model.items, model.seen, {"model": "ensemble"})
    folder = ensemble.save(tmp_path / "ensemble")
    assert [str(path.relative_to(folder)) for path in folder.rglob(SIGNATURE)] == [SIGNATURE]
    assert len(load_saved_model(folder).members) == 2
    # A member that somebody takes for a model of its own.
    with pytest.raises(SignatureError, match="not signed"):
        load_saved_model(shutil.copytree(folder / "members" / "0", tmp_path / "alone"))
    write_new_digests(folder / "members" / "1")
    with pytest.raises(ArtifactError, match=r"members/1/metadata\.json has a wrong checksum"):
        load_saved_model(folder)
    digest = hashlib.sha256((folder / "members" / "1" / "metadata.json").read_bytes()).hexdigest()
    metadata = json.loads((folder / "metadata.json").read_text())
    (folder / "metadata.json").write_text(json.dumps({**metadata, "members": [metadata["members"][0], digest]}))
    with pytest.raises(SignatureError, match="wrong signature"):
        load_saved_model(folder)
    (folder / "metadata.json").write_text(json.dumps({**metadata, "members": [None, None]}))
    monkeypatch.delenv(VARIABLE)
    with pytest.raises(ArtifactError, match="wrong checksum"):
        load_saved_model(folder)


def test_keys_in_a_file(signed, tmp_path, monkeypatch):
    path = tmp_path / "keys"
    path.write_text(f"new:{NEW}\n  old:{OLD}\n")
    monkeypatch.setenv(FILE_VARIABLE, str(path))
    with pytest.raises(UsageError, match="not both"):
        load_saved_model(signed)
    monkeypatch.delenv(VARIABLE)
    assert loads(signed)
    path.write_text(f"new:{NEW}")
    with pytest.raises(SignatureError, match="which RANKLINE_SIGNING_KEYS_FILE does not have"):
        load_saved_model(signed)
    # A file that is empty, or gone, does not open the door.
    path.write_text("\n")
    with pytest.raises(UsageError, match="key number 1"):
        load_saved_model(signed)
    path.unlink()
    with pytest.raises(UsageError, match=f"names {path}, which can't be read"):
        load_saved_model(signed)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (OLD, "key number 1 is not written id:key"),
        (f"old:{OLD},{NEW}", "key number 2 is not written id:key"),
        (f"A_b:{OLD}", "not written id:key"),
        (f"old:{OLD[:-1]}", "'old' is no base64"),
        (f"old:{OLD},new:{'é' * 43}=", "'new' is no base64"),
        (f"old:{OLD[:40]}", "'old' has 30 bytes, and needs 32"),
        (f"old:{OLD},old:{NEW}", "two keys 'old'"),
        (",", "key number 1"),
    ],
)
def test_no_message_and_no_repr_shows_a_key(text, message, monkeypatch):
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(UsageError, match=message) as refused:
        SigningKeys.of_environment()
    said = str(refused.value)
    assert OLD[:10] not in said
    assert NEW[:10] not in said
    assert "openssl rand -base64 32" in said or "two keys" in said
    shown = repr(SigningKeys({"old": b64decode(OLD)}))
    assert "old" not in shown
    assert repr(b64decode(OLD))[2:-1] not in shown


def test_the_documented_line_makes_a_key(monkeypatch):
    (line,) = re.findall(
        r"^export RANKLINE_SIGNING_KEYS=.*$", (ROOT / "docs" / "security.md").read_text(), re.MULTILINE
    )
    value = subprocess.check_output(["bash", "-c", f'{line}; echo "$RANKLINE_SIGNING_KEYS"'], text=True).strip()
    monkeypatch.setenv(VARIABLE, value)
    ((name, key),) = SigningKeys.of_environment().keys.items()
    assert (len(name), len(key)) == (7, 32)
    monkeypatch.setenv(VARIABLE, "x")
    with pytest.raises(UsageError, match=re.escape(line.partition('"')[2].rstrip('"'))):
        SigningKeys.of_environment()
