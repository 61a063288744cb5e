"""Artifacts as somebody would write them who means harm; each takes a good folder and spoils it.

Every checksum is put right again: whoever can write the files can write the metadata too.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pipeline.models.factor_model import FILES

W, H, SEEN, METADATA = FILES
Spoil = Callable[[Path], object]
MEMBERS = ("indptr.npy", "indices.npy", "shape.npy")


def sign(folder: Path) -> None:
    """The checksums of the files as they are now."""

    def put(metadata):
        for name in metadata["files"]:
            with (folder / name).open("rb") as file:
                metadata["files"][name] = hashlib.file_digest(file, "sha256").hexdigest()

    edit(folder, put)


def edit(folder: Path, change: Callable[[dict], object]) -> None:
    metadata = json.loads((folder / METADATA).read_text(encoding="utf-8"))
    change(metadata)
    (folder / METADATA).write_text(json.dumps(metadata), encoding="utf-8")


def header(text: str | bytes, version: bytes = b"\x01\x00", length: int | None = None) -> bytes:
    data = text if isinstance(text, bytes) else text.encode()
    n = len(data) if length is None else length
    return b"\x93NUMPY" + version + n.to_bytes(2 if version == b"\x01\x00" else 4, "little") + data


def plain(shape: str, descr: str = "'<f4'", order: str = "False") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n"


def npy(name: str, data: bytes) -> Spoil:
    def spoil(folder: Path) -> None:
        (folder / name).write_bytes(data)
        sign(folder)

    return spoil


def sparse_file(name: str, start: bytes, size: int) -> Spoil:
    """A file of which only the beginning takes up room. Not signed: to read all of it would be the harm."""

    def spoil(folder: Path) -> None:
        with (folder / name).open("wb") as file:
            file.write(start)
            file.truncate(size)

    return spoil


def seen(change: Callable[[bytes], bytes]) -> Spoil:
    def spoil(folder: Path) -> None:
        (folder / SEEN).write_bytes(change((folder / SEEN).read_bytes()))
        sign(folder)

    return spoil


def rezip(write: Callable[[zipfile.ZipFile, dict[str, bytes]], object], method: int = zipfile.ZIP_STORED) -> Spoil:
    def change(data: bytes) -> bytes:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w", method) as archive:
            write(archive, members)
        return made.getvalue()

    return seen(change)


def patched(offset: int, value: bytes, signature: bytes = b"PK\x01\x02") -> Spoil:
    """Bytes changed in the first record with this signature."""

    def change(data: bytes) -> bytes:
        at = data.index(signature) + offset
        return data[:at] + value + data[at + len(value) :]

    return seen(change)


def _zip64(data: bytes) -> bytes:
    """An end of the table of contents that claims four gigabytes of it."""
    end = data.rindex(b"PK\x05\x06")
    record = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 3, 3, 2**32, 0)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, end, 1)
    last = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 2**32 - 1, 2**32 - 1, 0)
    return data[:end] + record + locator + last


BOMB = 128  # MiB of zeros


def _bomb(archive: zipfile.ZipFile, members: dict[str, bytes]) -> None:
    for name, data in members.items():
        with archive.open(name, "w", force_zip64=True) as file:
            file.write(data)
            for _ in range(BOMB if name == "indices.npy" else 0):
                file.write(bytes(1 << 20))


def linked(name: str, target: str | os.PathLike[str]) -> Spoil:
    def spoil(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to(target)

    return spoil


def _pipe(folder: Path) -> None:
    (folder / W).unlink()
    os.mkfifo(folder / W)


def _outside(folder: Path) -> None:
    other = folder.with_name(folder.name + "-outside")
    other.mkdir(exist_ok=True)
    (folder / W).rename(other / W)
    (folder / W).symlink_to(other / W)


def _objects() -> bytes:
    made = io.BytesIO()
    np.save(made, np.array([[os.system]], object), allow_pickle=True)
    return made.getvalue()


def _ids_of(value: object) -> Spoil:
    return lambda folder: edit(folder, lambda m: m["user_ids"].__setitem__(-1, value))


def _facts(**values: object) -> Spoil:
    return lambda folder: edit(folder, lambda m: m.update(values))


def _text(text: str) -> Spoil:
    """In the place of the metrics, as it stands."""

    def spoil(folder: Path) -> None:
        metadata = (folder / METADATA).read_text(encoding="utf-8")
        (folder / METADATA).write_text(metadata.replace('"metrics": {', f'"more": {text}, "metrics": {{', 1))
        assert text in (folder / METADATA).read_text(encoding="utf-8")

    return spoil


BODY = bytes(4 * 12 * 4)
CODE = "{'descr': __import__('os').system('touch ran'), 'fortran_order': False, 'shape': (12, 4), }\n"

ARRAYS: dict[str, Spoil] = {
    "shape of petabytes": npy(W, header(plain("(1000000000, 1000000)")) + BODY),
    "shape past 64 bits": npy(W, header(plain("(4611686018427387904, 4)")) + BODY),
    "shape whose product wraps to the right one": npy(W, header(plain("(4611686018427387916, 4)")) + BODY),
    "shape of a thousand digits": npy(W, header(plain(f"({'9' * 1000}, 4)")) + BODY),
    "negative shape": npy(W, header(plain("(-12, -4)")) + BODY),
    "a dimension of -1": npy(W, header(plain("(-1, 4)")) + BODY),
    "shape of fractions": npy(W, header(plain("(12.0, 4)")) + BODY),
    "shape of truth": npy(W, header(plain("(True, 48)")) + BODY),
    "shape in text": npy(W, header(plain("('12', '4')")) + BODY),
    "sixty dimensions": npy(W, header(plain("(" + "1, " * 60 + ")")) + BODY[:4]),
    "no dimension": npy(W, header(plain("()")) + BODY[:4]),
    "objects": npy(W, _objects()),
    "objects by their header": npy(W, header(plain("(12, 4)", "'|O'")) + BODY),
    "fields": npy(W, header(plain("(12, 4)", "[('a', '<f4')]")) + BODY),
    "fields within fields": npy(W, header(plain("(12, 4)", "[('a', " * 99 + "'<f4'" + ")]" * 99)) + BODY),
    "an array in each cell": npy(W, header(plain("(12,)", "('<f4', (4,))")) + BODY),
    "wide text": npy(W, header(plain("(12, 4)", "'<U999999999'")) + BODY),
    "a type of nine digits": npy(W, header(plain("(12, 4)", "'|V999999999'")) + BODY),
    "the other byte order": npy(W, header(plain("(12, 4)", "'>f4'")) + BODY),
    "column by column": npy(W, header(plain("(12, 4)", order="True")) + BODY),
    "code in the header": npy(W, header(CODE) + BODY),
    "a key too many": npy(W, header(plain("(12, 4)").replace(", }", ", 'x': 1, }")) + BODY),
    "a key twice": npy(W, header(plain("(12, 4)").replace(", }", ", 'shape': (1, 1), }")) + BODY),
    "brackets without end": npy(W, header("(" * 4000) + BODY),
    "a header that is not text": npy(W, header(b"\xff" * 118) + BODY),
    "a header of NULs": npy(W, header(bytes(118)) + BODY),
    "header length 0": npy(W, header("", length=0) + BODY),
    "header length 65535": npy(W, header(plain("(12, 4)"), length=65535) + BODY),
    "header length of 4 GB": npy(W, header(plain("(12, 4)"), b"\x02\x00", 2**32 - 1) + BODY),
    "4 GB of header": sparse_file(W, header(plain("(12, 4)"), b"\x02\x00", 2**32 - 100), 2**32),
    "version 3": npy(W, header(plain("(12, 4)"), b"\x03\x00") + BODY),
    "version 9": npy(W, header(plain("(12, 4)"), b"\x09\x00") + BODY),
    "more behind": npy(W, header(plain("(12, 4)")) + BODY + b"\0"),
    "cut short": npy(W, header(plain("(12, 4)")) + BODY[:-1]),
    "no body": npy(W, header(plain("(12, 4)"))),
    "no header": npy(W, b"\x93NUMPY\x01\x00"),
    "magic alone": npy(W, b"\x93NUMPY"),
    "nothing": npy(W, b""),
    "a terabyte": sparse_file(W, header(plain("(68719476736, 4)")), 2**40),
    "a terabyte of items": sparse_file(H, header(plain("(4, 68719476736)")), 2**40),
    "items of petabytes": npy(H, header(plain("(1000000, 1000000000)")) + BODY),
}

ZIPS: dict[str, Spoil] = {
    "bomb": rezip(_bomb, zipfile.ZIP_DEFLATED),
    "a terabyte of seen": sparse_file(SEEN, b"PK\x03\x04", 2**40),
    "a member too many": rezip(lambda z, m: [z.writestr(n, d) for n, d in {**m, "more.npy": b""}.items()]),
    "a member too few": rezip(lambda z, m: [z.writestr(n, m[n]) for n in MEMBERS[:2]]),
    "names that climb": rezip(lambda z, m: [z.writestr(f"../{n}", d) for n, d in m.items()]),
    "absolute names": rezip(lambda z, m: [z.writestr(f"/tmp/{n}", d) for n, d in m.items()]),
    "a pickle beside": rezip(lambda z, m: [z.writestr(n, d) for n, d in {**m, "data.pkl": b"\x80\x04."}.items()]),
    "fifty thousand members": rezip(lambda z, m: [z.writestr(f"{i}.npy", b"") for i in range(50_000)]),
    "encrypted": patched(8, b"\x01\x00"),
    "another method": patched(10, b"\x63\x00"),
    "a length that is not there": patched(20, struct.pack("<LL", 2**31, 2**31)),
    "two lengths": patched(24, struct.pack("<L", 2**31)),
    "an offset past the end": patched(42, struct.pack("<L", 2**31)),
    "an offset elsewhere": patched(42, struct.pack("<L", 7)),
    "contents longer than the file": patched(12, struct.pack("<L", 2**31), b"PK\x05\x06"),
    "contents of 4 GB": seen(_zip64),
    "no contents": seen(lambda data: data[: data.index(b"PK\x01\x02")]),
    "a name that is not its own": patched(46, b"x"),
    "not a zip": npy(SEEN, b"PK" * 400),
    "objects among the members": rezip(lambda z, m: [z.writestr(n, _objects()) for n in m]),
    "a member in code": rezip(lambda z, m: [z.writestr(n, header(CODE)) for n in m]),
    "petabytes in a member": rezip(
        lambda z, m: [z.writestr(n, {**m, MEMBERS[1]: header(plain("(999999999999999,)", "'<i4'"))}[n]) for n in m]
    ),
}

FACTS: dict[str, Spoil] = {
    "nested 100,000 deep": _text("[" * 100_000 + "]" * 100_000),
    "objects 100,000 deep": _text('{"a":' * 100_000 + "1" + "}" * 100_000),
    "a gigabyte": sparse_file(METADATA, b'{"format": 1, "x": "', 2**30),
    "sixteen megabytes of lists": lambda f: (f / METADATA).write_bytes(b"[" + b"[]," * (6 << 20) + b"[]]"),
    "NaN": _text("NaN"),
    "Infinity": _text("-Infinity"),
    "a number past every float": _text("1e400"),
    "an integer of 10,000 digits": _text("9" * 10_000),
    "format in text": _facts(format="1"),
    "format as truth": _facts(format=True),
    "a huge format": _facts(format=10**4000),
    "a format that is a list": _facts(format=[[1] * 1000] * 100),
    "an id of 16 million characters": _ids_of("z" * (15 << 20)),
    "an id past 64 bits": _ids_of(2**64),
    "an id of another kind": _ids_of({"a": 1}),
    "an id that is half a character": _ids_of("\ud800"),
    "no checksums": _facts(files={}),
    "checksums by paths": _facts(files={"../../etc/passwd": "0" * 64, "/etc/passwd": "0" * 64}),
    "no checksum of the ids": _facts(id_digests={}),
    "checksums of the ids of another kind": _facts(id_digests=[1, 2]),
    "a run that is an escape sequence": _facts(run_id="\x1b[2J"),
    "a run of several lines": _facts(run_id="a\nb"),
    "a run of a million characters": _facts(run_id="a" * 10**6),
    "a run that is a list": _facts(run_id=["a"]),
    "a source that is an object": _facts(source={}),
    "metrics in text": _facts(metrics={"rmse": "0.5"}),
    "metrics that are a list": _facts(metrics=[1]),
    "parameters that are a number": _facts(parameters=7),
    "factors without end": _facts(n_components=10**18, files={}),
    "half a factor": _facts(n_components=4.0),
}

PLACES: dict[str, Spoil] = {
    "a link to another file": linked(W, "/etc/passwd"),
    "a link that climbs": linked(METADATA, "../../../../../../../../etc/passwd"),
    "a good file, outside": _outside,
    "a link to itself": linked(SEEN, SEEN),
    "a link to nothing": linked(H, "nowhere.npy"),
    "a device without end": linked(W, "/dev/zero"),
    "metadata without end": linked(METADATA, "/dev/zero"),
    "a pipe that nobody writes to": _pipe,
    "a socket's worth of nothing": linked(SEEN, "/dev/null"),
    "a folder": linked(W, "."),
}

ALL = {**ARRAYS, **ZIPS, **FACTS, **PLACES}
