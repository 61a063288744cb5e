"""Ctrl-C while LLVM compiles."""

from __future__ import annotations

import logging
import os
import signal
import time

import pytest

from pipeline.cli import main as entry


def test_ctrl_c_within_a_callback_of_llvm_comes_after_it():
    """Python drops an exception that a callback from C raises: so Ctrl-C waits for the callback's end."""
    lost = []

    def _raw_object_cache_notify():  # the name that llvmlite gives it
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0)
        except KeyboardInterrupt:
            lost.append(True)

    before = signal.signal(signal.SIGINT, entry._interrupt)
    try:
        _raw_object_cache_notify()
        with pytest.raises(KeyboardInterrupt):
            time.sleep(5)
    finally:
        signal.signal(signal.SIGINT, before)
        logging.getLogger("sqlalchemy").setLevel(logging.NOTSET)
    assert not lost


def test_llvmlite_still_names_its_callbacks_so():
    engine = pytest.importorskip("llvmlite.binding").ExecutionEngine
    assert callable(engine._raw_object_cache_notify)
    assert callable(engine._raw_object_cache_getbuffer)
