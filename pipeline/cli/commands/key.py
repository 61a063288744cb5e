"""`rankline key`."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli.command import RECOMMENDATIONS, Invocation, Outputs, command
from pipeline.errors import UsageError

__all__: list[str] = []


@command(
    "key",
    panel=RECOMMENDATIONS,
    examples=("rankline key add shop --scope read,write", "rankline key list", "rankline key revoke shop"),
)
def _key(
    run: Invocation,
    action: Annotated[str, typer.Argument(metavar="add|list|revoke", help="What to do.")],
    key_id: Annotated[str | None, typer.Argument(metavar="ID", help="Name of the key; add makes one up.")] = None,
    scope: Annotated[
        str, typer.Option("--scope", help="What it allows, of read, write, admin, metrics: read,write.")
    ] = "read",
) -> Outputs:
    """Make, list or revoke the keys of `rankline serve`.

    A key is shown once; its hash alone is kept. Once there is a key, every request needs one. A change holds at the
    next request.
    """
    if action not in ("add", "list", "revoke"):
        raise typer.BadParameter(f"{action!r} is not add|list|revoke", param_hint="add|list|revoke")
    if (action == "revoke") != (key_id is not None) and action != "add":
        raise UsageError("Write rankline key list, or rankline key revoke ID")
    from pipeline.cli.output.keys import added_output, listed_output, revoked_output
    from pipeline.serving.keys import KeyFile, scopes_of

    keys = KeyFile(run.settings.live_path / "keys.json")
    if action == "add":
        scopes = scopes_of(scope)
        return added_output(keys.add(scopes, key_id), scopes)
    if action == "revoke" and key_id is not None:
        keys.revoke(key_id)
        return revoked_output(key_id)
    return listed_output(keys.keys())
