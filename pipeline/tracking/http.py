"""Requests to a tracking server whose answers end: a time-out is of the whole answer, and a small answer is small.

MLflow's own time-out counts from byte to byte, so that one byte a second would hold a command for ever.
"""

from __future__ import annotations

from typing import Any

import requests
from mlflow.utils import request_utils
from requests.adapters import HTTPAdapter

from pipeline.warehouse.answer import Answer, expecting
from pipeline.warehouse.transport import POOLS

__all__ = ["bound_answers", "get"]

_REDIRECTS = 3
_MlflowAdapter: type[HTTPAdapter] = request_utils.TCPKeepAliveHTTPAdapter


# The base is a variable for mypy, since MLflow gives its adapter no type.
class BoundedAdapter(_MlflowAdapter):  # type: ignore[misc,valid-type]
    """MLflow's adapter, for answers that end. A file that is downloaded goes on for as long as bytes come."""

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        """As in `requests`."""
        super().init_poolmanager(*arguments, **options)
        self.poolmanager.pool_classes_by_scheme = POOLS

    def proxy_manager_for(self, *arguments: Any, **options: Any) -> Any:
        """As in `requests`."""
        manager = super().proxy_manager_for(*arguments, **options)
        manager.pool_classes_by_scheme = POOLS
        return manager

    def send(self, request: requests.PreparedRequest, stream: bool = False, **options: Any) -> requests.Response:
        """As in `requests`; a packed answer, which could be unpacked to any size, is not asked for."""
        request.headers["Accept-Encoding"] = "identity"
        with expecting(Answer(stream=stream)):
            response: requests.Response = super().send(request, stream=stream, **options)
        return response


def bound_answers() -> None:
    """Bound the answers to all requests that MLflow sends from now on."""
    if request_utils.TCPKeepAliveHTTPAdapter is not BoundedAdapter:
        request_utils.TCPKeepAliveHTTPAdapter = BoundedAdapter  # type: ignore[misc]
        request_utils._cached_get_request_session.cache_clear()


def get(address: str, seconds: float, **options: Any) -> requests.Response:
    """The small answer to a GET request, complete within so many seconds."""
    with requests.Session() as session:
        session.max_redirects = _REDIRECTS
        for scheme in ("http://", "https://"):
            session.mount(scheme, BoundedAdapter())
        return session.get(address, timeout=seconds, **options)
