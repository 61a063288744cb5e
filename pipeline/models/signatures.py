"""Signatures of saved models: HMAC-SHA256 of ``metadata.json``, which holds the digests of the other files.

A digest says that files belong together, a signature that somebody with the key wrote them. Keys are in the
environment: ``RANKLINE_SIGNING_KEYS`` is ``id:key,id:key``, or ``RANKLINE_SIGNING_KEYS_FILE`` names a file of these.
The first key signs, each verifies; so a key is changed by adding the new one in front. Without keys nothing is signed
or verified.

HMAC: RFC 2104. The key is written in base64.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import ArtifactError, SignatureError, UsageError
from pipeline.models import safe_files

__all__ = ["FILE_VARIABLE", "SIGNATURE", "VARIABLE", "SigningKeys"]

SIGNATURE = "metadata.json.sig"
VARIABLE, FILE_VARIABLE = "RANKLINE_SIGNING_KEYS", "RANKLINE_SIGNING_KEYS_FILE"
_FORMAT, _SIGNATURE_BYTES, _FILE_BYTES = 1, 1024, 1 << 16
_ID = re.compile(r"[a-z0-9-]{1,32}")
_LEAST_BYTES = 32  # as long as the hash; a word that somebody thought of is shorter
_KEY_LINE = 'echo "$(date +%Y-%m):$(openssl rand -base64 32)"'


@dataclass(frozen=True)
class SigningKeys:
    """Keys by their ids. Nothing shows the keys themselves, `repr` neither.

    where : the variable that they are from, for messages
    """

    keys: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    where: str = VARIABLE

    @classmethod
    def of_environment(cls) -> SigningKeys:
        """The keys of this process; none where neither variable is set. Raises UsageError, which shows no key."""
        text, path = os.environ.get(VARIABLE), os.environ.get(FILE_VARIABLE)
        if text and path:
            raise UsageError(f"Set {VARIABLE} or {FILE_VARIABLE}, not both")
        if path:
            return cls(_parsed(_content(Path(path)), FILE_VARIABLE), FILE_VARIABLE)
        return cls(_parsed(text, VARIABLE)) if text else cls()

    def __bool__(self) -> bool:
        return bool(self.keys)

    def signature(self, metadata: bytes) -> bytes | None:
        """The content of the file `SIGNATURE`, by the first key; None without keys."""
        for key_id, key in self.keys.items():
            digest = hmac.digest(key, metadata, "sha256").hex()
            return (json.dumps({"format": _FORMAT, "key": key_id, "hmac_sha256": digest}) + "\n").encode()
        return None

    def verify(self, folder: Path, metadata: bytes) -> None:
        """Raise SignatureError if `metadata` is not signed with one of the keys; without keys nothing is asked."""
        if not self.keys:
            return
        if not os.path.lexists(folder / SIGNATURE):
            raise SignatureError(
                f"{folder} is not signed (it has no {SIGNATURE}), and {self.where} is set: train it anew with the "
                f"keys, or unset {self.where} to take models whoever wrote them"
            )
        key_id, digest = _read(folder)
        key = self.keys.get(key_id)
        if key is None:
            raise SignatureError(
                f"{folder} is signed with the key {key_id!r}, which {self.where} does not have (it has "
                f"{', '.join(self.keys)}): put that key after the first, or train anew"
            )
        if not hmac.compare_digest(hmac.digest(key, metadata, hashlib.sha256), digest):
            raise SignatureError(
                f"{folder} has a wrong signature: metadata.json was changed after training, or it was signed with "
                f"another key than the {key_id!r} of {self.where}. Take its files from the run again, or train anew"
            )


def _read(folder: Path) -> tuple[str, bytes]:
    """Id of the key, and the digest."""
    try:
        with safe_files.opened(folder, SIGNATURE) as file:
            content = safe_files.read_json(file, _SIGNATURE_BYTES)
        key_id, digest = content["key"], bytes.fromhex(content["hmac_sha256"])
        whole = content["format"] == _FORMAT and isinstance(key_id, str) and _ID.fullmatch(key_id)
    except (ArtifactError, KeyError, TypeError, ValueError):
        whole = None
    if not whole:
        raise SignatureError(f"{folder / SIGNATURE} can't be read as a signature: train anew, or restore it")
    return key_id, digest


def _content(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_FILE_BYTES).decode("ascii")
    except OSError as error:
        raise UsageError(f"{FILE_VARIABLE} names {path}, which can't be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise UsageError(f"{FILE_VARIABLE} names {path}, which holds no keys; {_advice()}") from None


def _parsed(text: str, where: str) -> dict[str, bytes]:
    """The keys of ``id:key``, separated by commas or white space; the messages hold ids alone."""
    keys: dict[str, bytes] = {}
    for place, part in enumerate(re.split(r"[,\s]+", text.strip(", \t\r\n")), 1):
        key_id, _, encoded = part.partition(":")
        if not encoded or not _ID.fullmatch(key_id):
            # Not shown: it may be a key without its id.
            raise UsageError(f"{where}: key number {place} is not written id:key; {_advice()}")
        try:
            key = base64.b64decode(encoded.replace("-", "+").replace("_", "/"), validate=True)
        except (binascii.Error, ValueError):
            raise UsageError(f"{where}: the key {key_id!r} is no base64; {_advice()}") from None
        if len(key) < _LEAST_BYTES:
            raise UsageError(f"{where}: the key {key_id!r} has {len(key)} bytes, and needs {_LEAST_BYTES}; {_advice()}")
        if key_id in keys:
            raise UsageError(f"{where}: there are two keys {key_id!r}")
        keys[key_id] = key
    return keys


def _advice() -> str:
    return f"this makes one: {_KEY_LINE}"
