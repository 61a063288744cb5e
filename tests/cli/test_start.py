"""How a command starts."""

from __future__ import annotations

import gc

from support.typed import typed


def test_the_garbage_collector_looks_less_often_than_pythons(capsys):
    before = gc.get_threshold()
    gc.set_threshold(700, 10, 10)
    try:
        assert typed(capsys, "--version")[0] == 0
        assert gc.get_threshold() == (10_000, 10, 10)
        assert gc.isenabled()
    finally:
        gc.set_threshold(*before)
