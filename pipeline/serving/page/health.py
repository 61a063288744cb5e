"""The page's fourth part: what works, what does not, and what was measured of drift."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from pipeline.serving.drift_report import drift_report
from pipeline.serving.page.answers import html
from pipeline.serving.routes.state import health_details
from pipeline.serving.service import Service

__all__ = ["show"]

_NAMES = {"interaction_log": "new interactions", "system": "machine"}
_LEFT_OUT = ("fault", "warning")


async def show(request: Request, service: Service) -> Response:
    """All parts, and drift as a table below them."""
    details = health_details(service, service.model.served())
    parts = [
        {
            "name": _NAMES.get(name, name.replace("_", " ")),
            "fault": part.get("fault", ""),
            "facts": {
                key.replace("_", " "): value
                for key, value in part.items()
                if key not in _LEFT_OUT and isinstance(value, str | int | float)
            },
        }
        for name, part in details.items()
        if name != "drift"
    ]
    faults = sum(bool(part["fault"]) for part in parts)
    return html(
        request,
        "health.html.j2",
        details=parts,
        faults=faults,
        drift=drift_report(service.folder),
        docs=service.config.options.docs == "yes",
    )
