"""What the log keeps for served models: two services of one host, each of a model of its own, share it."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from support.served import put_copy, small_trained

from pipeline.interaction_log import Interaction, InteractionLog
from pipeline.options import ServeOptions
from pipeline.serving.agent import Agent
from pipeline.serving.live_folder import LiveFolder, write_json
from pipeline.serving.service import ServiceConfig


def test_interactions_stay_until_the_models_of_every_name_have_read_them(tmp_path: Path) -> None:
    model, agents = small_trained("popular"), []
    with InteractionLog.open(tmp_path / "interactions.db") as log:
        log.append([Interaction(1, item) for item in range(9)])
        log.mark_shipped(log.next_shipment())
        for name, read in (("rankline", 7), ("films", 3)):
            folder = LiveFolder(tmp_path, name)
            pointer = replace(put_copy(folder, model), watermark={log.log_id: read})
            write_json(folder.models / f"{pointer.digest}.json", vars(pointer))
            config = ServiceConfig(ServeOptions(), tmp_path, name, "sqlite:///none")
            agents.append(Agent(config, threading.Event()))
        later = datetime.now(UTC) + timedelta(days=8)
        films = LiveFolder(tmp_path, "films")
        write_json(films.models_snapshot, {"watermarks": [{log.log_id: 8}, {log.log_id: 2}]})  # any may be activated
        agents[0]._keep_uncovered()
        assert (log.trim(later), log.first_seq()) == (2, 3)
        films.models_snapshot.unlink()
        for agent in (*agents, agents[0]):
            agent._keep_uncovered()
        assert (log.trim(later), log.first_seq()) == (1, 4)
