"""`check`: tries everything that a training with these options needs, except the fit. It changes nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from pipeline.config import FILE_NAME, ConfigFile, options_from
from pipeline.data.sources.sample import is_empty
from pipeline.errors import RanklineError
from pipeline.jobs.data_gate import quality_of
from pipeline.jobs.doctor import Finding, Group, examine
from pipeline.jobs.doctor.job import DoctorResult
from pipeline.jobs.doctor.warehouse import warehouse_group
from pipeline.jobs.inputs import LoadedInput, open_warehouse
from pipeline.jobs.preflight import read_source
from pipeline.options import Names, PromotionLimits, ReadOptions, ScoreOptions, TrainOptions, TuneOptions
from pipeline.runtime.diagnostics import fail, ok, warn
from pipeline.runtime.progress import Reporter
from pipeline.runtime.redact import Mask
from pipeline.settings import Settings
from pipeline.tracking.health import store_group

__all__ = ["check_job"]

_LIMIT = 60.0  # seconds for a check of a store; reading the source has no limit


def check_job(
    read_options: ReadOptions, settings: Settings, reporter: Reporter, debug: Callable[[str], None] = lambda _: None
) -> DoctorResult:
    """Check options, source, columns, data gate, warehouse and MLflow store, with a finding for each.

    The warehouse and the store are those that `score` and `train` write to. Raises UsageError for invalid options.
    """
    findings = [*_options(settings, os.environ)]
    mask = Mask(dict(os.environ))
    groups = [
        _some(warehouse_group(settings, mask), "reachable", "grants"),
        _some(store_group(settings.tracking_uri, settings.names.model), "reachable", "experiment", "artifacts"),
    ]
    # Check the stores first: this closes the embedded warehouse, which the source then opens.
    stores, hanging = examine(groups, mask, _LIMIT, debug)
    findings += [replace(finding, group="source") for finding in _source(read_options, settings, reporter)]
    return DoctorResult((*findings, *stores), hanging)


def _some(group: Group, *names: str) -> Group:
    return Group(group.name, [check for check in group.checks if check.name in names], group.close, group.server)


def _options(settings: Settings, environ: Mapping[str, str]) -> Iterator[Finding]:
    config = settings.config
    for options in (Names, TrainOptions, TuneOptions, PromotionLimits, ScoreOptions):
        options_from(options, config, environ)
    limits = settings.data_limits
    n_limits = sum(getattr(limits, limit.name) is not None for limit in fields(limits))
    yield replace(_named(config), group="options")
    yield replace(ok("data gate", f"{n_limits} limit(s) set"), group="options")


def _named(config: ConfigFile | None) -> Finding:
    if config is not None:
        return ok(FILE_NAME, f"{config.path}: {len(config.values)} option(s)")
    if Path(FILE_NAME).is_file():
        return warn(FILE_NAME, "it lies here and is not used", f"--config {FILE_NAME}, or RANKLINE_CONFIG")
    return ok(FILE_NAME, "none is named: options come from the environment, else they have their defaults")


def _source(read_options: ReadOptions, settings: Settings, reporter: Reporter) -> Iterator[Finding]:
    """Read the source as a training does, and run the data gate on it, but load no sample."""
    try:
        if (nothing := _nothing_yet(read_options, settings)) is not None:
            yield nothing
            return
        loaded = read_source(read_options, settings, reporter)
    except RanklineError as error:
        yield fail("source", str(error), "correct the source's options", server=error.exit_status == 4)
        return
    yield from _read(loaded, settings)


def _nothing_yet(read_options: ReadOptions, settings: Settings) -> Finding | None:
    """A finding where the source is the embedded warehouse and it is empty: a training would load the sample."""
    from_file = read_options.source == "file" or (read_options.input is not None and settings.warehouse is None)
    if from_file or not settings.warehouse_dsn.startswith("chdb://"):
        return None
    todo = "a training loads the MovieLens sample; --input or --query names data of yours"
    folder = Path(settings.warehouse_dsn.removeprefix("chdb://"))
    if not folder.exists():
        return warn("source", f"the embedded warehouse {folder} is not there yet", todo)
    with open_warehouse(settings) as warehouse:
        return warn("source", f"{warehouse.address} is empty", todo) if is_empty(warehouse) else None


def _read(loaded: LoadedInput, settings: Settings) -> Iterator[Finding]:
    """Findings on the data and the data gate. Only a training compares the data with the champion's."""
    read, x = loaded.read, loaded.read.interactions
    quality = quality_of(loaded, settings.data_limits)
    bad = f", {read.n_bad:,} bad row(s) left out" if read.n_bad else ""
    note = f" ({'; '.join(loaded.notes)})" if loaded.notes else ""
    yield ok("source", f"{loaded.where}: {read.n_rows:,} rows{bad}{note}")
    if len(x.scores):
        size = f"{quality.facts.n_users:,} users, {quality.facts.n_items:,} items"
        times = "no times" if x.at is None else f"times {_day(x.at.min())} to {_day(x.at.max())}"
        chosen = f"; {read.columns.sentence}" if read.columns else ""
        yield ok("columns", f"{size}, scores {x.scores.min():g} to {x.scores.max():g}, {times}{chosen}")
    if quality.verdict == "passed":
        yield ok("data gate", "passed")
    elif quality.verdict == "warned":
        yield warn("data gate", quality.words, "a training goes on; a limit under data_gate would stop it")
    else:
        yield fail("data gate", quality.words, "look at the data, or set the limit otherwise")


def _day(moment: Any) -> str:
    return str(moment.astype("datetime64[D]"))
