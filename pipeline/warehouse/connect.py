"""`connect` opens the warehouse at an address and checks that it answers."""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote

from pipeline.errors import (
    BusyError,
    ConnectionLostError,
    RefusedError,
    ServerError,
    UnreachableError,
    UsageError,
)
from pipeline.runtime.retry import AGAIN, RetryPolicy, retry
from pipeline.warehouse.client import Warehouse
from pipeline.warehouse.dsn import HINT, address_of, port_of, split
from pipeline.warehouse.embedded import open_embedded
from pipeline.warehouse.errors import wrap_errors

__all__ = ["connect"]

_YES, _NO = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


def connect(
    dsn: str,
    connect_timeout: int = 10,
    read_timeout: int = 300,
    query_timeout: int = 3600,
    retry_policy: RetryPolicy | None = None,
) -> Warehouse:
    """Open the warehouse and check that it answers.

    Parameters
    ----------
    dsn : ``chdb:///path``, ``clickhouse://user:password@host:8123/database`` or ``clickhouses://…``
        (TLS, with the options ``verify`` (0 or 1) and ``ca_cert`` (a path)).
    connect_timeout : seconds to wait for a connection
    read_timeout : seconds to wait for an answer; a stream of rows takes as long as it brings rows
    query_timeout : seconds that a server may work on one statement; a limit that the server has itself stands; 0 sets
        none
    retry_policy : how often a call that is safe to repeat is tried again; default, 5 more tries within 60 s. The
        embedded warehouse is not tried again.

    Raises
    ------
    UnreachableError
        Nothing answers at the address.
    RefusedError, QueryError
        The server answers and refuses the connection.
    WarehouseInUseError
        Another process has the embedded warehouse open.
    """
    parts, address = split(dsn), address_of(dsn)
    if parts.scheme == "chdb":
        client, path = open_embedded(parts.path, address)
        return Warehouse(client, address, path)
    options = _options(parts)

    def open_client(read_timeout: int) -> Any:
        return _client(parts, address, options, connect_timeout=connect_timeout, read_timeout=read_timeout)

    retry_policy = retry_policy or RetryPolicy()
    client = retry(lambda: open_client(read_timeout), "opening it", retry_policy, (ConnectionLostError, BusyError))
    bounded = _bound(client, query_timeout)
    return Warehouse(
        client, address, retry_policy=retry_policy, another=lambda: open_client(min(read_timeout, 5)), bounded=bounded
    )


def _options(parts: SplitResult) -> dict[str, str]:
    """The options of a server's DSN. Raises UsageError for an unknown one, or one that says nothing usable."""
    known = {"verify", "ca_cert"}
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if unknown := sorted(set(options) - known):
        raise UsageError(f"RANKLINE_WAREHOUSE has unknown option(s) {unknown}; known: {sorted(known)}")
    if options and parts.scheme != "clickhouses":
        raise UsageError(f"RANKLINE_WAREHOUSE: {sorted(options)} is about TLS: write clickhouses://")
    if options.get("verify", "1").lower() not in (*_YES, *_NO):
        raise UsageError("RANKLINE_WAREHOUSE: verify is 1 or 0 (true, false, yes, no, on, off)")
    certificates = options.get("ca_cert")
    if certificates is not None and certificates != "certifi":
        try:
            Path(certificates).open("rb").close()
            ssl.create_default_context(cafile=certificates)
        except ssl.SSLError:
            reason = "it holds no certificate in PEM"
        except OSError as error:
            reason = error.strerror or "it can't be read"
        else:
            return options
        raise UsageError(f"RANKLINE_WAREHOUSE: ca_cert={certificates} can't be used ({reason})")
    return options


def _client(
    parts: SplitResult, address: str, options: dict[str, str], *, connect_timeout: int, read_timeout: int
) -> Any:
    """A client of clickhouse_connect for the server of a DSN; it has sent its first query."""
    import clickhouse_connect

    from pipeline.warehouse.transport import pool_manager, proxy_of

    # It logs the traceback of each error that it raises, and the error is raised again as ours.
    logging.getLogger("clickhouse_connect").setLevel(logging.CRITICAL)
    tls, verify = parts.scheme == "clickhouses", options.get("verify", "1").lower() in _YES
    host, port = parts.hostname or "", port_of(parts)
    proxy = proxy_of(tls, host, port)
    with _named_proxy(proxy and proxy[1]), _told_of_tls(host, port, address, tls or proxy is not None, connect_timeout):
        client = clickhouse_connect.get_client(
            # The client's own DSN parser knows no TLS scheme and would send the password in clear.
            interface="https" if tls else "http",
            host=host,
            port=port,
            username=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else "",
            database=unquote(parts.path.strip("/")) or None,
            pool_mgr=pool_manager(tls, verify, options.get("ca_cert"), proxy and proxy[0]),
            connect_timeout=connect_timeout,
            send_receive_timeout=read_timeout,
            client_name="rankline",
            show_clickhouse_errors="scrub",
            # A session would refuse a second query while a stream is read.
            autogenerate_session_id=False,
            # `retry_policy` alone decides what is tried again.
            query_retries=0,
            # Answers of few rows are small as they are, and can't be unpacked to any size.
            compress=False,
        )
    client.write_compression = "lz4"
    return client


@contextmanager
def _named_proxy(proxy: str | None) -> Iterator[None]:
    """Name the proxy in errors of the first request. What can't be reached is it, so no file stands in."""
    try:
        yield
    except ServerError as error:
        if proxy is None:
            raise
        kind = RefusedError if isinstance(error, UnreachableError) else type(error)
        raise kind(f"{str(error).removesuffix(AGAIN)}; it was asked by way of {proxy}") from None


@contextmanager
def _told_of_tls(host: str, port: int, address: str, known: bool, seconds: int) -> Iterator[None]:
    """Translate errors of the first request; a port that hangs up is asked whether it wants TLS, unless `known`."""
    try:
        with wrap_errors(address, opening=True):
            yield
    except (ConnectionLostError, RefusedError):
        if known or not _speaks_tls(host, port, seconds):
            raise
        raise RefusedError(
            f"The port at {address} speaks TLS: write clickhouses:// instead of clickhouse://. {HINT}"
        ) from None


def _speaks_tls(host: str, port: int, seconds: int) -> bool:
    """Whether the port answers a TLS handshake; nothing but that is sent."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection((host, port), seconds) as plain, context.wrap_socket(plain, server_hostname=host):
            return True
    except ssl.SSLError as error:
        return "ALERT" in (error.reason or "")  # it knows TLS and refuses this one
    except OSError:
        return False


def _bound(client: Any, seconds: int) -> bool:
    """Have the server end a statement after `seconds`; whether it will.

    A limit that the server has already, or does not let this user change, stays as it is.
    """
    setting = client.server_settings.get("max_execution_time")
    if not (seconds and (setting is None or (str(setting.value) == "0" and not int(setting.readonly)))):
        return False
    client.set_client_setting("max_execution_time", seconds)
    return True
