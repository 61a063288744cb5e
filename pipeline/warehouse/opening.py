"""`connect`: the warehouse at an address, seen to answer."""

from __future__ import annotations

import logging
from typing import Any
from urllib.parse import parse_qsl, unquote

from pipeline.errors import BusyError, ConnectionLostError, UsageError
from pipeline.patience import Patience, repeated
from pipeline.warehouse.address import address_of, port_of, split
from pipeline.warehouse.client import Warehouse
from pipeline.warehouse.embedded import open_embedded
from pipeline.warehouse.translation import translated

__all__ = ["connect"]


def connect(
    dsn: str,
    connect_timeout: int = 10,
    read_timeout: int = 300,
    query_timeout: int = 3600,
    patience: Patience | None = None,
) -> Warehouse:
    """Open the warehouse and see that it answers.

    Parameters
    ----------
    dsn : ``chdb:///path``, ``clickhouse://user:password@host:8123/database`` or ``clickhouses://…``
        (TLS). Options of a server's DSN: ``verify`` (0 or 1) and ``ca_cert`` (a path).
    connect_timeout, read_timeout : seconds until a connection stands, and between bytes of an answer
    query_timeout : seconds that a server may work on one statement, where it has no such limit itself; 0: as it likes
    patience : for what is safe to repeat; default, 5 more tries within 60 s. Embedded there is nothing to wait for.

    Raises
    ------
    UnreachableError
        Nothing answers at the address: said at once.
    RefusedError, QueryError
        Something answers, and does not let us in.
    LockedError
        Another process has the embedded warehouse open.
    """
    parts, address = split(dsn), address_of(dsn)
    if parts.scheme == "chdb":
        client, path = open_embedded(parts.path, address)
        return Warehouse(client, address, path)
    import clickhouse_connect

    # It logs the traceback of what is raised anyway, and translated.
    logging.getLogger("clickhouse_connect").setLevel(logging.CRITICAL)
    known = {"verify", "ca_cert"}
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if unknown := sorted(set(options) - known):
        raise UsageError(f"RANKLINE_WAREHOUSE has unknown option(s) {unknown}; known: {sorted(known)}")
    tls = parts.scheme == "clickhouses"

    def client_of(read_timeout: int) -> Any:
        with translated(address, opening=True):
            return clickhouse_connect.get_client(
                # The client's own DSN parser knows no TLS scheme and would send the password in clear.
                interface="https" if tls else "http",
                host=parts.hostname,
                port=port_of(parts),
                username=unquote(parts.username) if parts.username else None,
                password=unquote(parts.password) if parts.password else "",
                database=unquote(parts.path.strip("/")) or None,
                verify=options.get("verify", "1") not in ("0", "false"),
                ca_cert=options.get("ca_cert"),
                connect_timeout=connect_timeout,
                send_receive_timeout=read_timeout,
                client_name="rankline",
                show_clickhouse_errors="scrub",
                # Sessions would refuse a second query while a stream is read.
                autogenerate_session_id=False,
                # Who tries again is decided in one place: `patience`.
                query_retries=0,
            )

    patience = patience or Patience()
    client = repeated(lambda: client_of(read_timeout), "opening it", patience, (ConnectionLostError, BusyError))
    bounded = _bound(client, query_timeout)
    return Warehouse(
        client, address, patience=patience, another=lambda: client_of(min(read_timeout, 5)), bounded=bounded
    )


def _bound(client: Any, seconds: int) -> bool:
    """Have the server end what takes longer, unless it has a limit already or lets nobody change it; whether it has."""
    there = client.server_settings.get("max_execution_time")
    if not (seconds and (there is None or (str(there.value) == "0" and not int(there.readonly)))):
        return False
    client.set_client_setting("max_execution_time", seconds)
    return True
