"""`rankline schema`."""

from __future__ import annotations

import json

from pipeline.cli.command import WAREHOUSE, Invocation, Outputs, command
from pipeline.cli.output.model import Exact, Output

__all__: list[str] = []


@command("schema", panel=WAREHOUSE, examples="rankline schema > rankline.schema.json", json_option=False)
def _schema(run: Invocation) -> Outputs:
    """Print the JSON Schema of rankline.yaml, for editors."""
    from pipeline.options.sections import json_schema

    return Output("schema", {}, [Exact(json.dumps(json_schema(), indent=2, ensure_ascii=False))], always_blocks=True)
