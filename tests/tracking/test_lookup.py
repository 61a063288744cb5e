"""Which version or run a text names, and what is said where there is none."""

from __future__ import annotations

import re

import mlflow
import pytest
from support.stored_evaluations import add_version

from pipeline.errors import InputError
from pipeline.tracking.lookup import find_run
from pipeline.tracking.registry import resolve

pytest_plugins = ["support.homes"]


def test_what_is_missing_is_named_with_the_store_and_what_there_is(home, make_model, rng, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", home.env["MLFLOW_TRACKING_URI"])
    mlflow.set_tracking_uri(home.env["MLFLOW_TRACKING_URI"])
    store = re.escape(home.env["MLFLOW_TRACKING_URI"])
    with pytest.raises(InputError, match=rf"No version of 'rankline' is registered yet in {store}; train one first"):
        resolve(None)
    with pytest.raises(InputError, match=rf"No model of the name 'nosuch' in {store}: no model is registered there"):
        resolve("nosuch")
    add_version(home, make_model(rng), None)
    other = f"No model of the name 'nosuch' in {store}: there are rankline; rankline train"
    for text in ("nosuch", "nosuch@champion", "nosuch/3"):
        with pytest.raises(InputError, match=other):
            resolve(text)
    for text, missing in (("rankline@champion", "champion"), ("rankline@best", "alias 'best'"), ("7", "version 7")):
        with pytest.raises(
            InputError, match=rf"^rankline has no {missing} in {store}; its newest version is rankline/1$"
        ):
            resolve(text)
    with pytest.raises(InputError, match=rf"No run 'abcd' in {store}"):
        find_run("abcd")
