"""The agent ships to a server, never opens the embedded warehouse, and keeps what a served model has not read."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from pipeline.data.sources.warehouse import init
from pipeline.interaction_log import Interaction, InteractionLog
from pipeline.serving.shipper import Shipper, cover
from pipeline.settings import Settings
from pipeline.warehouse import Warehouse

pytest_plugins = ["support.warehouse_fixtures"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "live" / "interactions.db"
    with InteractionLog.open(path) as log:
        log.append([Interaction(1, 2, 4.0), Interaction(1, 3)])
    return path


def test_it_ships_to_a_server_and_goes_on_after_a_fault(over_http: Warehouse, http_server, path: Path) -> None:
    shipper = Shipper(path, Settings(warehouse=SecretStr(http_server.dsn)))
    shipper.look()
    assert "rankline init" in shipper.fault
    init(over_http)
    stopping = threading.Event()
    stopping.set()
    shipper.run(stopping)
    assert shipper.fault == ""
    counts = [over_http.rows(f"SELECT count() AS n FROM raw.{name}")[0]["n"] for name in ("ratings", "watched_movies")]
    assert counts == [1, 1]
    http_server.clear()
    shipper.look()
    assert http_server.log() == [], "the warehouse is not asked where nothing waits"


def test_it_never_opens_the_embedded_warehouse(path: Path, tmp_path: Path) -> None:
    stopping = threading.Event()
    Shipper(path, Settings(warehouse=SecretStr(f"chdb://{tmp_path}/engine"))).run(stopping)
    assert not (tmp_path / "engine").exists()


def test_what_a_model_has_not_read_is_kept(path: Path, tmp_path: Path) -> None:
    with InteractionLog.open(path) as log:
        log.mark_shipped(log.next_shipment())
        models = [tmp_path / "a", tmp_path / "b"]
        for folder, mark in zip(models, ({log.log_id: 2, "other": 9}, {log.log_id: 1}), strict=True):
            folder.mkdir()
            (folder / "metadata.json").write_text(json.dumps({"data_watermark": mark}))
        cover(path, models)
        later = datetime.now(UTC) + timedelta(days=8)
        assert log.trim(later) == 1
        (models[1] / "metadata.json").write_text(json.dumps({"data_watermark": None}))
        cover(path, models)
        assert log.trim(later) == 0
        cover(path, models[:1])
        assert log.trim(later) == 1
    cover(tmp_path / "no.db", models)
    assert not (tmp_path / "no.db").exists()
