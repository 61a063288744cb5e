"""Which pins the image installs: what its extras need, as the installed packages say it themselves, and no more."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from importlib.metadata import PackageNotFoundError, requires

import pytest
from packaging.requirements import Requirement
from support.manifests import DOCKERFILE, ROOT

spec = importlib.util.spec_from_file_location("pins", ROOT / "deploy" / "image" / "pins.py")
assert spec is not None
assert spec.loader is not None
pins = importlib.util.module_from_spec(spec)
spec.loader.exec_module(pins)

LOCK = (ROOT / "requirements.lock").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
(DEFAULT,) = re.findall(r"^ARG EXTRAS=(\S+)$", DOCKERFILE, re.MULTILINE)


def walked(extras: list[str]) -> set[str]:
    """The slow twin: from package to package by the metadata of what is installed here."""
    optional = PROJECT["project"]["optional-dependencies"]
    open_ = [
        Requirement(line) for line in (*PROJECT["project"]["dependencies"], *(r for e in extras for r in optional[e]))
    ]
    done: set[tuple[str, frozenset[str]]] = set()
    while open_:
        one = open_.pop()
        key = (pins.normal(one.name), frozenset(one.extras))
        if key in done:
            continue
        done.add(key)
        try:
            texts = requires(one.name) or []
        except PackageNotFoundError:
            continue  # for another system
        for text in texts:
            needed = Requirement(text)
            if any(needed.marker is None or needed.marker.evaluate({"extra": extra}) for extra in (*one.extras, "")):
                open_.append(needed)
    return {name for name, _ in done}


@pytest.mark.parametrize("extras", [DEFAULT, "sample,serve,redis,tune", ""])
def test_all_that_is_needed_and_nothing_of_the_developers(extras: str) -> None:
    names = [name for name in extras.split(",") if name]
    chosen = set(pins.needed(pins.blocks(LOCK), pins.roots(PROJECT, names)))
    assert walked(names) <= chosen
    assert ("chdb" in chosen) == ("embedded" in names)
    assert ("redis" in chosen) == ("redis" in names)
    assert not {"pytest", "ruff", "mypy", "playwright", "schemathesis", "hypothesis", "jax", "lightgbm"} & chosen


def test_the_lines_are_those_of_the_lock(capsys: pytest.CaptureFixture[str]) -> None:
    of = pins.blocks(LOCK)
    assert "".join(of.values()) == LOCK
    pins.main(["serve,redis"], ROOT)
    printed = capsys.readouterr().out
    assert printed in "".join(of[name] for name in sorted(of) if of[name] in printed)
    for name, text in pins.blocks(printed).items():
        assert text == of[name]
        assert "--hash=sha256:" in text
    pins.main(["--package", "setuptools"], ROOT)
    assert capsys.readouterr().out == of["setuptools"]


def test_an_unknown_extra_and_a_missing_pin_are_said() -> None:
    with pytest.raises(SystemExit, match=r"There is no extra sorve; pyproject\.toml has dev, embedded"):
        pins.roots(PROJECT, ["sorve"])
    with pytest.raises(SystemExit, match=r"has no pin of nowhere: make it anew"):
        pins.needed(pins.blocks(LOCK), {"nowhere"})
