"""JSON Schemas of what the API says of versions, trainings and jobs."""

from __future__ import annotations

from typing import Any

__all__ = ["COMPARISON", "HISTORY", "JOB", "MODELS", "OF_CHAMPION", "TAKEN", "TRAINING"]

_TEXT: dict[str, Any] = {"type": "string"}
_TIME: dict[str, Any] = {"type": ["string", "null"], "description": "ISO 8601, UTC"}
_NUMBERS: dict[str, Any] = {"type": "object", "additionalProperties": {"type": "number"}}
_BASELINES: dict[str, Any] = {"type": "object", "additionalProperties": _NUMBERS}
_STATES = ["queued", "running", "done", "failed"]
_KINDS = ["train", "activate", "rollback", "delete_version", "forget", "compare"]


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "properties": properties}


_MODEL = _object(
    version=_TEXT,
    label=_TEXT,
    run_id=_TEXT,
    algorithm=_TEXT,
    created_at=_TIME,
    champion={"type": "boolean"},
    served={"type": "boolean", "description": "whether lists are made by it now"},
    gate=_object(decision={"enum": ["promoted", "refused", "none"]}, reason=_TEXT),
    metrics=_NUMBERS,
    baselines=_BASELINES,
)
MODELS = _object(models={"type": "array", "items": _MODEL})
_END = {"type": ["number", "null"], "description": "end of the 95 % interval of the difference, user by user"}
COMPARISON = _object(
    a=_MODEL,
    b=_MODEL,
    difference={
        "type": "object",
        "additionalProperties": _object(
            a={"type": "number"},
            b={"type": "number"},
            difference={"type": "number", "description": "b minus a"},
            low=_END,
            high=_END,
        ),
    },
    reason={"type": "string", "description": 'why they are not compared user by user; "" where they are'},
)
OF_CHAMPION = _object(version=_TEXT, metrics=_NUMBERS, baselines=_BASELINES)
HISTORY = _object(
    history={
        "type": "array",
        "items": _object(version=_TEXT, created_at=_TIME, metrics=_NUMBERS, baselines=_BASELINES),
    }
)
TRAINING = _object(
    state={"enum": ["idle", *_STATES]},
    job_id={"type": ["string", "null"]},
    stage=_TEXT,
    loss={
        "type": "array",
        "items": {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2},
        "description": "iteration and loss",
    },
    lines={"type": "array", "items": _TEXT, "description": "the last lines that it printed"},
    started_at=_TIME,
    finished_at=_TIME,
    reason=_TEXT,
    version={"type": ["string", "null"], "description": "that it registered"},
)
TAKEN = _object(job_id=_TEXT, kind={"enum": _KINDS}, state={"enum": _STATES})
JOB = _object(
    job_id=_TEXT,
    kind={"enum": _KINDS},
    state={"enum": _STATES},
    reason={"type": "string", "description": "why it failed, or waits"},
    created_at=_TIME,
    started_at=_TIME,
    finished_at=_TIME,
    result={"type": "object"},
)
