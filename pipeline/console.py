"""What a person, or a job's log, gets to see: sentences and bars on stderr, results on stdout."""

from __future__ import annotations

import itertools
import json
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pipeline.errors import UsageError

if TYPE_CHECKING:
    from pipeline.jobs.look import Listing, Shown
    from pipeline.jobs.reporter import Reporter
    from pipeline.jobs.score import ScoreResult
    from pipeline.jobs.train import TrainResult
    from pipeline.jobs.tune import TuneResult

__all__ = ["Console"]

_LOG = logging.getLogger("rankline")
_NEXT = "rankline promote, then rankline score"  # of a version that is registered


class _JsonLines(logging.Formatter):
    """One object a line: timestamp, level, service, message, metadata."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(
            {
                "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
                "level": record.levelname.lower(),
                "service": "rankline",
                "message": record.getMessage(),
                "metadata": getattr(record, "metadata", {}),
            },
            ensure_ascii=False,
            default=str,
        )


class Console:
    """One command's output. `log_format` json: everything, results too, as log lines on stderr."""

    def __init__(self, log_format: str = "text") -> None:
        if log_format not in ("text", "json"):
            raise UsageError(f"--log-format must be text or json, got {log_format!r}")
        self.json = log_format == "json"
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(_JsonLines() if self.json else logging.Formatter("%(message)s"))
        _LOG.handlers[:] = [handler]
        _LOG.setLevel(logging.INFO)
        _LOG.propagate = False

    @staticmethod
    def failed(message: str, arguments: list[str]) -> None:
        """The one line that a failed command ends with."""
        # The options may be what is wrong, so they are looked for as typed.
        typed = ("--log-format", "json") in itertools.pairwise(arguments)
        variable = os.environ.get("RANKLINE_LOG_FORMAT") == "json"
        as_json = typed or "--log-format=json" in arguments or variable
        line = " ".join(message.split())
        if as_json:
            Console("json")
            _LOG.error(line)
        else:
            sys.stderr.write(f"error: {line}\n")

    @contextmanager
    def working(self) -> Iterator[Reporter]:
        """A reporter that shows sentences, and bars where stderr is a terminal."""
        from pipeline.jobs.reporter import Reporter

        if self.json:
            begun: set[str] = set()

            def told(stage: str, done: int, total: int | None, note: str = "") -> None:
                """A line as each stage begins: a log shows how far a job came."""
                if stage not in begun:
                    begun.add(stage)
                    _LOG.info(stage, extra={"metadata": {"stage": stage}})

            yield Reporter(_LOG.info, told)
            return
        if not sys.stderr.isatty():
            yield Reporter(_LOG.info, lambda stage, done, total, note="": None)
            return
        from rich.console import Console as Terminal
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeRemainingColumn,
        )

        with Progress(
            SpinnerColumn(),
            TextColumn("{task.description:<18}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=Terminal(stderr=True),
            transient=True,
        ) as bars:
            current: dict[str, Any] = {"stage": None, "task": None, "drawn": 0.0}

            def progress(stage: str, done: int, total: int | None, note: str = "") -> None:
                if stage != current["stage"]:
                    if current["task"] is not None:
                        bars.remove_task(current["task"])
                    current.update(stage=stage, task=bars.add_task(stage, total=total, note=note), drawn=0.0)
                # A fast solver reports thousands of times a second.
                if (now := time.monotonic()) - current["drawn"] > 0.05 or done == total:
                    current["drawn"] = now
                    bars.update(current["task"], completed=done, total=total, note=note)

            yield Reporter(lambda text: bars.console.print(text, highlight=False, markup=False), progress)

    # ---- results ----------------------------------------------------------------------------

    def trained(self, result: TrainResult, settings: Any) -> None:
        """A training's end: the metrics, and what to do next."""
        if self.json:
            metadata = {"run_id": result.run_id, "version": result.version, **result.metrics}
            metadata["better_than_popular"] = result.better_than_popular
            _LOG.info("trained", extra={"metadata": metadata})
            return
        title = f"{result.run_name}  (run {result.run_id[:8]}, rankline/{result.version})"
        self._metrics(title, result.metrics, result.better_than_popular)
        self.print(
            f"time: {result.facts['seconds_total']:.1f} s, of it "
            + ", ".join(
                f"{name.removeprefix('seconds_')} {value:.1f}"
                for name, value in result.facts.items()
                if name.startswith("seconds_") and name != "seconds_total"
            )
        )
        self.print(f"model: rankline/{result.version} · next: {_NEXT} · look: {_ui_command(settings)}")
        if result.chosen.source == "warehouse" and settings.warehouse is None:
            where = f"{result.chosen.where} (embedded; RANKLINE_WAREHOUSE names another)"
            self.print(f"{'scratch warehouse' if _in_scratch() else 'warehouse'}: {where}")

    def tuned(self, result: TuneResult, settings: Any) -> None:
        """A search's end: the test part's table, the winner as a command, and what to do next."""
        from pipeline.tuning_page import TITLES, command_of, verdict

        tuned, metric = result.tuned, result.tuned.metric
        test = {name: found.metrics[metric] for name, found in tuned.test.items()}
        if self.json:
            metadata = {"run_id": result.run_id, "version": result.trained.version, "metric": metric, "test": test}
            _LOG.info("tuned", extra={"metadata": {**metadata, "best": dict(tuned.best.options)}})
            return
        from rich.table import Table

        table = Table(title=f"{metric} on the test part, which the search never saw", title_justify="left")
        for name in test:
            table.add_column(TITLES[name], justify="right")
        table.add_row(*(f"{value:.4f}" for value in test.values()))
        self.print(table)
        self.print(verdict(tuned))
        self.print(f"best of {len(tuned.trials)}: rankline train {command_of(tuned.best.options)}")
        self.print(
            f"model: rankline/{result.trained.version} (run {result.trained.run_id[:8]}), trained on everything · "
            f"next: {_NEXT} · trials: run {result.run_id[:8]} · look: {_ui_command(settings)}"
        )

    def scored(self, result: ScoreResult) -> None:
        """A scoring's end: what was published, and where."""
        s = result.summary
        if self.json:
            metadata = {"model": result.model, "table": result.table, "n_users": s.n_users, "n_rows": s.n_rows}
            _LOG.info(result.outcome.action, extra={"metadata": metadata})
            return
        self.print(
            f"{result.outcome.action} {s.n_rows:,} rows for {s.n_with_items:,} of {s.n_users:,} users "
            f"to {result.table} in {result.address}, from {result.model}, in {result.seconds:.1f} s"
        )
        if s.n_short:
            self.print(f"{s.n_short:,} user(s) have fewer unseen items than asked for, and got those")
        if s.n_flat:
            self.print(
                f"{s.n_flat:,} user(s) have no item with a score above 0: their lists are in the order of ids "
                "(more components, or --min-interactions, at training)"
            )
        if s.n_unknown:
            self.print(
                f"{s.n_unknown:,} user(s) of the warehouse are not in the model; --unknown popular gives them a list"
            )

    def listing(self, listing: Listing) -> None:
        """A user's list beside what they liked best."""
        if self.json:
            items, scores = listing.ranking
            metadata = {
                "user": listing.user,
                "model": listing.model,
                "items": items.tolist(),
                "scores": [float(x) for x in scores],
            }
            _LOG.info("recommended", extra={"metadata": metadata})
            return
        from rich.table import Table

        source = f" ({listing.ranking.source})" if listing.ranking.source != "nmf" else ""
        table = Table(title=f"Recommended for user {listing.user}{source}", title_justify="left")
        titled = bool(listing.titles)
        for name in ("rank", "item", *(["title"] if titled else []), "score"):
            table.add_column(name, justify="left" if name == "title" else "right")
        for rank, (item, score) in enumerate(zip(*listing.ranking, strict=True), start=1):
            title = [listing.titles.get(str(item), "")] if titled else []
            table.add_row(str(rank), str(item), *title, f"{float(score):.3f}")
        if not listing.liked:
            self.print(table)
            return
        liked = Table(title=f"What user {listing.user} liked best", title_justify="left")
        liked.add_column("score", justify="right")
        liked.add_column("title")
        for row in listing.liked:
            liked.add_row(f"{row['score']:g}", row["title"] or str(row["item_id"]))
        beside = Table.grid(padding=(0, 3))
        beside.add_row(liked, table)
        self.print(beside)

    def shown(self, shown: Shown, settings: Any) -> None:
        """A version at a glance."""
        if self.json:
            _LOG.info("version", extra={"metadata": {"run_id": shown.run_id, **shown.metrics}})
            return
        self._metrics(f"{shown.run_name}  (run {shown.run_id[:8]})", shown.metrics)
        if shown.listing is not None:
            self.print("")
            self.listing(shown.listing)
        self.print("")
        for row in shown.published:
            self.print(
                f"table: analytics.recommendations in {shown.address}: {row['n_rows']:,} rows, "
                f"{row['n_users']:,} users, version {row['model_version']}"
            )
        self.print('read it: rankline sql "SELECT * FROM analytics.recommendations WHERE user_id = 1 ORDER BY rank"')
        self.print(f"runs: {_ui_command(settings)}")

    def rows(self, columns: list[str], rows: list[tuple[Any, ...]], output: str = "") -> None:
        """A query's result: a table for people, TSV or JSON lines for pipes."""
        output = output or ("table" if sys.stdout.isatty() else "tsv")
        if not columns:
            return
        if output == "json":
            for row in rows:
                sys.stdout.write(
                    json.dumps(dict(zip(columns, row, strict=True)), default=str, ensure_ascii=False) + "\n"
                )
        elif output == "tsv":
            for row in [tuple(columns), *rows]:
                sys.stdout.write("\t".join(str(value).replace("\t", " ").replace("\n", " ") for value in row) + "\n")
        else:
            from rich.table import Table

            table = Table(*columns)
            for row in rows:
                table.add_row(*(str(value) for value in row))
            self.print(table)

    def _metrics(self, title: str, metrics: dict[str, float], better: str | None = None) -> None:
        """What people look at, beside the baselines, and the verdict; MLflow has the rest."""
        from rich.table import Table

        from pipeline.beside import side_by_side, verdict_in_words

        self.print(title)
        for beside in side_by_side(metrics):
            table = Table()
            for column in beside.columns:
                table.add_column(column, justify="left" if column == "metric" else "right")
            for row in beside.rows:
                table.add_row(*row)
            self.print(table)
            if beside.note:
                self.print(beside.note)
        if verdict := verdict_in_words(metrics, better):
            self.print(verdict)
        fit = ("reconstruction_error", "observed_rmse", "sparsity", "n_iter")
        self.print(" · ".join(f"{name} {metrics[name]:.6g}" for name in fit if name in metrics))

    def result(self, message: str, metadata: dict[str, Any]) -> None:
        """A result as a log line."""
        _LOG.info(message, extra={"metadata": metadata})

    @staticmethod
    def print(what: Any) -> None:
        """A sentence or a table on stdout."""
        from rich.console import Console as Terminal

        terminal = Terminal(
            width=None if sys.stdout.isatty() else 140, highlight=False, markup=False, soft_wrap=isinstance(what, str)
        )
        terminal.print(what)


def _ui_command(settings: Any) -> str:
    from pipeline.settings import address_of_store

    address = address_of_store(settings.tracking_uri)
    if address.startswith(("http://", "https://")):
        return address
    return f"make ui (or: mlflow ui --backend-store-uri {address})"


def _in_scratch() -> bool:
    """Whether the project is a temporary clone, as `mlflow run` makes of a git address."""
    import tempfile
    from pathlib import Path

    from pipeline.settings import PROJECT_ROOT

    return Path(tempfile.gettempdir()).resolve() in PROJECT_ROOT.parents
