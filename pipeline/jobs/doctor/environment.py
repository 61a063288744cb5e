"""Checks of the settings: their values and origins. Secrets are never shown."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Collection, Iterator, Mapping

from pydantic import SecretStr, ValidationError

from pipeline.errors import RanklineError
from pipeline.models.signatures import FILE_VARIABLE, VARIABLE, SigningKeys
from pipeline.runtime.diagnostics import Finding, fail, ok, warn
from pipeline.runtime.redact import store_shown
from pipeline.settings import Settings
from pipeline.warehouse import address_of

__all__ = ["mlflow_settings", "options", "read_settings", "settings_in_force", "signing_keys"]

# Values that can't be secrets.
_PLAIN = re.compile(r"-?\d[\d_.]*(e[-+]?\d+)?|none|auto|yes|no|true|false|text|json", re.IGNORECASE)
# MLflow's variables that can't hold a secret; any other one may.
_HARMLESS = ("MLFLOW_TRACKING_INSECURE_TLS", "MLFLOW_DISABLE_TELEMETRY", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_RUN_ID")


def read_settings() -> tuple[Settings, list[Finding]]:
    """The settings, and a finding for each invalid one, which is replaced by its default."""
    findings: list[Finding] = []
    while True:
        try:
            return Settings(), findings
        except ValidationError as error:
            # Show names and reasons, never values: a value may be a password.
            for problem in error.errors(include_input=False):
                name = f"RANKLINE_{'_'.join(map(str, problem['loc'])).upper()}"
                findings.append(fail(name, str(problem["msg"]), f"correct {name}, or unset it"))
                if os.environ.pop(name, None) is None:
                    # Written in another case: names of settings are case-insensitive.
                    for other in [key for key in os.environ if key.upper() == name]:
                        del os.environ[other]


def settings_in_force(settings: Settings) -> Iterator[Finding]:
    """Check Rankline's settings, and list the names of those that are not set."""
    unset = []
    for name, about in Settings.model_fields.items():
        variable = f"RANKLINE_{name.upper()}"
        origin = "environment" if name in settings.model_fields_set else "default"
        value = getattr(settings, name)
        if name == "warehouse":
            try:
                shown = address_of(settings.warehouse_dsn)
            except RanklineError as error:
                yield fail(variable, str(error), "write clickhouse://user:password@host:8123, or chdb:///folder")
                continue
            masked = " (user and password not shown)" if "@" in settings.warehouse_dsn else ""
            yield ok(variable, f"{shown}{masked} ({origin})")
        elif value is None:
            unset.append(variable)
        else:
            secret = isinstance(value, SecretStr) or "SecretStr" in str(about.annotation)
            plain = "***" if secret else _plain(str(value))
            yield ok(variable, f"{plain} ({origin})")
    if unset:
        yield ok("not set", ", ".join(unset))


def signing_keys(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Check the keys that models are signed with, where there are any; their ids alone are shown."""
    if not any(environ.get(name) for name in (VARIABLE, FILE_VARIABLE)):
        return
    try:
        keys = SigningKeys.of_environment()
    except RanklineError as error:
        yield fail("signing keys", str(error), "nothing is trained or loaded with them as they are")
    else:
        first, *others = keys.keys
        also = f"; {', '.join(others)} verify, too" if others else ""
        yield ok(keys.where, f"{first} signs models{also}; one that is not signed is refused")


def options(known: Collection[str], environ: Mapping[str, str]) -> Iterator[Finding]:
    """Check the other ``RANKLINE_…`` variables: options of commands (`known`), and unknown names."""
    fields = {f"RANKLINE_{name.upper()}" for name in Settings.model_fields} | {VARIABLE, FILE_VARIABLE}
    names = sorted(name for name in environ if name.upper().startswith("RANKLINE_") and name.upper() not in fields)
    used = [name for name in names if name in known]
    if used:
        shown = ", ".join(f"{name}={_plain(environ[name])}" for name in used)
        yield ok("options", f"{shown} (environment; they hold where the option is not typed)")
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, [*known, *fields], 1)
            yield warn(name, "no option or setting has this name", f"{near[0]} is meant?" if near else "unset it")


def mlflow_settings(settings: Settings, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Check MLflow's settings. For most of them only the name is shown."""
    uri = settings.tracking_uri
    origin = "environment" if environ.get("MLFLOW_TRACKING_URI") else "default"
    shown = store_shown(uri)
    if shown is None:
        yield fail(
            "MLFLOW_TRACKING_URI", f"no address that MLflow knows ({origin}); not shown", "write http://host:5000"
        )
    else:
        yield ok("MLFLOW_TRACKING_URI", f"{shown} ({origin})")
    if uri.startswith("sqlite:///") and not uri.startswith("sqlite:////"):
        yield warn(
            "MLFLOW_TRACKING_URI",
            "a path that depends on the folder a command is typed in",
            "write sqlite:////path/to/mlflow.db",
        )
    others = sorted(name for name in environ if name.startswith("MLFLOW_") and name != "MLFLOW_TRACKING_URI")
    if others:
        each = [f"{name}={_plain(environ[name]) if name in _HARMLESS else '***'}" for name in others]
        yield ok("others", ", ".join(each) + " (environment)")
    if environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("1", "true"):
        yield warn(
            "MLFLOW_TRACKING_INSECURE_TLS",
            "certificates are not checked",
            "MLFLOW_TRACKING_SERVER_CERT_PATH names one to trust",
        )
    if environ.get("MLFLOW_RUN_ID"):
        yield warn(
            "MLFLOW_RUN_ID", "set: every command here writes into that one run", "unset it, outside of mlflow run"
        )


def _plain(value: str) -> str:
    return value if _PLAIN.fullmatch(value) else "(set)"
