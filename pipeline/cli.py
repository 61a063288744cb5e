"""The command line: arguments → jobs, errors → one line and an exit status, progress bars.

Heavy imports wait until a command needs them: ``rankline --help`` answers at once.
"""

from __future__ import annotations

import inspect
import logging
import os
import signal
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer

from pipeline import __version__
from pipeline.console import Console
from pipeline.errors import NotPromotedError, RanklineError, UsageError
from pipeline.evaluate_spec import EvaluateSpec, as_ks, as_models
from pipeline.spec import ReadSpec, ScoreSpec, TrainSpec, TuneSpec

__all__ = ["app", "main"]

app = typer.Typer(
    name="rankline",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="From the interactions in a warehouse to a table of recommendations, recorded in MLflow.",
    epilog="Example: rankline train --n-components 20 && rankline score && rankline recommend 1",
)

INTERRUPTED = 130
_PANELS = {
    "EvaluateSpec": "What to measure",
    "ReadSpec": "Where the interactions come from",
    "ScoreSpec": "What to score",
    "TrainSpec": "What to train",
    "TuneSpec": "How to search",
}


def _options(
    *specs: type, without: Collection[str] = (), defaults: Mapping[str, Any] | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the fields of the specs as options, each also from ``RANKLINE_<OPTION>``.

    The command is called with the specs, made and checked, in front of its own options. Fields in `without`
    are no options of it; `defaults` are those of the command where they differ from a spec's.
    """

    def offered(spec: type) -> list[Any]:
        return [one for one in fields(spec) if one.name not in without]

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        parameters: dict[str, inspect.Parameter] = {}
        for spec in specs:
            hints = get_type_hints(spec)
            for one in offered(spec):
                option = typer.Option(
                    "--" + one.name.replace("_", "-"),
                    envvar=f"RANKLINE_{one.name.upper()}",
                    help=one.metadata["help"],
                    metavar=_metavar(hints[one.name]),
                    parser=_parser(hints[one.name]),
                    show_default=True,
                    rich_help_panel=_PANELS[spec.__name__],
                )
                default = (defaults or {}).get(one.name, one.default)
                # A default goes through the parser like a typed value, so it is given as text.
                parameters[one.name] = inspect.Parameter(
                    one.name,
                    inspect.Parameter.KEYWORD_ONLY,
                    default="none" if default is None else str(default),
                    annotation=Annotated[Any, option],
                )
        own = list(inspect.signature(function, eval_str=True).parameters.values())[len(specs) :]

        def command(**values: Any) -> None:
            made = [spec(**{one.name: values.pop(one.name) for one in offered(spec)}) for spec in specs]
            function(*made, **values)

        command.__name__, command.__doc__ = function.__name__, function.__doc__
        parameters |= {one.name: one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own}
        command.__signature__ = inspect.Signature(list(parameters.values()))  # type: ignore[attr-defined]  # Typer reads it
        command.__annotations__ = {name: one.annotation for name, one in parameters.items()}
        return command

    return decorate


def _metavar(hint: Any) -> str:
    """What may be typed, e.g. ``INTEGER|auto``."""
    if get_args(hint) and get_origin(hint) is not None and str(get_origin(hint)).endswith("Literal"):
        return "|".join(map(str, get_args(hint)))
    if get_args(hint):
        return "|".join(_metavar(part) for part in get_args(hint))
    return {int: "INTEGER", float: "NUMBER", str: "TEXT", type(None): "none"}.get(hint, "PATH")


def _parser(hint: Any) -> Callable[[Any], Any]:
    """Text → value of the hinted type; ``none`` is None where that is allowed."""

    def parse(text: Any) -> Any:
        from pydantic import TypeAdapter, ValidationError

        if type(None) in get_args(hint) and str(text).lower() in ("none", ""):
            return None
        try:
            return TypeAdapter(hint).validate_python(text)
        except ValidationError:
            raise typer.BadParameter(f"{text!r} is not {_metavar(hint)}") from None

    return parse


# ---- options that are no part of a spec ---------------------------------------------------------

Debug = Annotated[bool, typer.Option("--debug", envvar="RANKLINE_DEBUG", help="Show tracebacks.")]
LogFormat = Annotated[
    str,
    typer.Option(
        "--log-format", envvar="RANKLINE_LOG_FORMAT", metavar="text|json", help="json: one object a line, for jobs."
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        envvar="RANKLINE_MODEL",
        metavar="MODEL",
        help="rankline@champion, rankline/3, runs:/RUN_ID or a folder. Default: the champion, else the newest.",
    ),
]
Experiment = Annotated[
    str,
    typer.Option(
        "--experiment-name",
        envvar="RANKLINE_EXPERIMENT_NAME",
        help="MLflow experiment; under `mlflow run` that of its run.",
    ),
]
VersionFile = Annotated[
    str | None,
    typer.Option(
        "--version-file",
        envvar="RANKLINE_VERSION_FILE",
        metavar="PATH",
        help="Write the registered version (rankline/7) to this file, for the next step of a script.",
    ),
]


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"rankline {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """From the interactions in a warehouse to a table of recommendations, recorded in MLflow."""


@app.command("train", epilog="Example: rankline train --source file --input ratings.csv --n-components 20")
@_options(TrainSpec, ReadSpec)
def _train(
    spec: TrainSpec,
    read: ReadSpec,
    experiment_name: Experiment = "rankline",
    version_file: VersionFile = None,
    log_format: LogFormat = "text",
    debug: Debug = False,
) -> None:
    """Train a model, record it in MLflow and register it."""
    console = Console(log_format)
    settings = _settings()
    file = None if version_file is None else _writable(version_file)
    from pipeline.jobs.train import train_job

    with console.working() as reporter:
        result = train_job(spec, read, settings, reporter, experiment_name)
    if file is not None:
        file.write_text(f"rankline/{result.version}\n")
    console.trained(result, settings)


@app.command("tune", epilog="Example: rankline tune --trials 40 --timeout 1800 --source file --input ratings.csv")
@_options(TrainSpec, TuneSpec, ReadSpec)
def _tune(
    spec: TrainSpec,
    search: TuneSpec,
    read: ReadSpec,
    experiment_name: Experiment = "rankline",
    version_file: VersionFile = None,
    log_format: LogFormat = "text",
    debug: Debug = False,
) -> None:
    """Search the options that rank best, train with them on everything and register the model."""
    console = Console(log_format)
    settings = _settings()
    file = None if version_file is None else _writable(version_file)
    from pipeline.jobs.tune import tune_job

    with console.working() as reporter:
        result = tune_job(spec, search, read, settings, reporter, experiment_name)
    if file is not None:
        file.write_text(f"rankline/{result.trained.version}\n")
    console.tuned(result, settings)


@app.command("score", epilog="Example: rankline score --model rankline@champion --k 20")
@_options(ScoreSpec)
def _score(spec: ScoreSpec, log_format: LogFormat = "text", debug: Debug = False) -> None:
    """Rank for every user and publish analytics.recommendations."""
    console = Console(log_format)
    settings = _settings()
    from pipeline.jobs.score import score_job

    with console.working() as reporter:
        result = score_job(spec, settings, reporter)
    console.scored(result)


@app.command("recommend", epilog="Example: rankline recommend 42 --k 5")
def _recommend(
    user: Annotated[str, typer.Argument(help="The user's id.")],
    k: Annotated[int, typer.Option("--k", envvar="RANKLINE_K", min=1, help="Items, at most.")] = 10,
    model: Model = None,
    unknown: Annotated[
        str,
        typer.Option(
            "--unknown",
            metavar="error|popular",
            help="For a user who is not in the model: an error, or what is popular.",
        ),
    ] = "error",
    log_format: LogFormat = "text",
    debug: Debug = False,
) -> None:
    """Show a user's list in the terminal, with titles where the warehouse has them."""
    if unknown not in ("error", "popular"):
        raise typer.BadParameter(f"{unknown!r} is not error|popular", param_hint="--unknown")
    console = Console(log_format)
    settings = _settings()
    from pipeline.jobs.look import recommend_job

    with console.working() as reporter:
        listing = recommend_job(user, k, model, unknown == "popular", settings, reporter)
    console.listing(listing)


@app.command("show", epilog="Example: rankline show --user 42")
def _show(
    model: Model = None,
    user: Annotated[
        str | None, typer.Option("--user", envvar="RANKLINE_USER", help="Whose list to show. Default: the first.")
    ] = None,
    log_format: LogFormat = "text",
    debug: Debug = False,
) -> None:
    """Show a version's metrics, one user's published list, and where everything is."""
    console = Console(log_format)
    settings = _settings()
    from pipeline.jobs.look import show_job

    with console.working() as reporter:
        shown = show_job(model, settings, reporter, user)
    console.shown(shown, settings)


@app.command("sample", epilog="Example: rankline sample")
def _sample(log_format: LogFormat = "text", debug: Debug = False) -> None:
    """Load 100,004 real MovieLens ratings into the warehouse's raw tables."""
    console = Console(log_format)
    settings = _settings()
    from pipeline.jobs.warehouse import sample_job

    with console.working() as reporter:
        sample_job(settings, reporter)


@app.command("init", epilog="Example: RANKLINE_WAREHOUSE=clickhouse://user:password@host:8123 rankline init")
def _init(log_format: LogFormat = "text", debug: Debug = False) -> None:
    """Make the tables that are missing and bring the mart's view up to its SQL file."""
    console = Console(log_format)
    settings = _settings()
    from pipeline.jobs.warehouse import init_job

    with console.working() as reporter:
        init_job(settings, reporter)


@app.command("why", epilog="Example: rankline why 42 318")
def _why(
    user: Annotated[str, typer.Argument(help="The user's id.")],
    item: Annotated[str, typer.Argument(help="The item's id.")],
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="MODEL",
            help="Other artifacts than those of the run that the table names.",
        ),
    ] = None,
    log_format: LogFormat = "text",
    debug: Debug = False,
) -> None:
    """Show why an item is, or is not, in a user's published list: the row made again, factor by factor."""
    console = Console(log_format)
    settings = _settings()
    from pipeline.console_tables import show_why
    from pipeline.jobs.why import why_job

    with console.working() as reporter:
        why = why_job(user, item, model, settings, reporter)
    show_why(console, why)
    why.check()


@app.command("diff", epilog="Example: rankline diff")
def _diff(
    a: Annotated[str | None, typer.Argument(help="A published table. Default: the one before.")] = None,
    b: Annotated[str | None, typer.Argument(help="Another. Default: the published one.")] = None,
    log_format: LogFormat = "text",
    debug: Debug = False,
) -> None:
    """Tell two published tables apart: users gained, lost and changed, overlap, items won and lost."""
    console = Console(log_format)
    settings = _settings()
    from pipeline.console_tables import show_diff
    from pipeline.jobs.diff import diff_job

    show_diff(console, diff_job(a, b, settings))


@app.command("sql", epilog='Example: rankline sql "SELECT * FROM analytics.recommendations WHERE user_id = 1"')
def _sql(
    statement: Annotated[str, typer.Argument(help="One SQL statement.")],
    output: Annotated[
        str, typer.Option("--output", envvar="RANKLINE_OUTPUT", metavar="table|tsv|json", help="How to print rows.")
    ] = "",
    log_format: LogFormat = "text",
    debug: Debug = False,
) -> None:
    """Run a statement in the warehouse; for the embedded one, which has no client at hand."""
    if output not in ("", "table", "tsv", "json"):
        raise typer.BadParameter(f"{output!r} is not table|tsv|json", param_hint="--output")
    console = Console(log_format)
    settings = _settings()
    from pipeline.jobs.warehouse import sql_job

    columns, rows = sql_job(statement, settings)
    console.rows(columns, rows, output)


@app.command(
    "evaluate", epilog="Example: rankline evaluate --train train.csv --test test.csv --model popular --k 10,20 --json"
)
@_options(
    EvaluateSpec,
    TrainSpec,
    without=("holdout", "on_interrupt", "split", "split_last", "split_cutoff"),
    defaults={"min_data": 1},
)
def _evaluate(
    files: EvaluateSpec,
    spec: TrainSpec,
    model: Annotated[
        list[str],
        typer.Option(
            "--model",
            metavar="popular|recent|item-knn|nmf",
            help="One or more, with commas or repeated; the options of training are nmf's.",
        ),
    ] = ["nmf,popular"],  # noqa: B006  Typer copies it
    k: Annotated[
        list[str],
        typer.Option("--k", metavar="INTEGERS", help="Lengths of lists, with commas: 10,20."),
    ] = ["10"],  # noqa: B006  Typer copies it
    as_json: Annotated[
        bool, typer.Option("--json", envvar="RANKLINE_JSON", help="Print one JSON object and nothing else.")
    ] = False,
    log_format: LogFormat = "text",
    debug: Debug = False,
) -> None:
    """Check a published table: fit models to one file and judge them by another.

    All training items are ranked for each user, without those they have in training; or, with negatives, each
    held-out item among its own. Highest score first, equal scores by item id, whatever the model: how many were
    decided so is said. An item that training does not know ranks last; users it does not know are counted and left out.

    --json prints the metrics of the first model at the top level (ndcg_at_10, recall_at_20, …) beside model,
    protocol, k, n_users, n_held_out and digests; models has those of every model by its name.
    """
    models, ks = as_models(model), as_ks(k)
    console = Console(log_format)
    from pipeline.jobs.evaluate import evaluate_job
    from pipeline.scoreboard import show_scores

    with console.working() as reporter:
        result = evaluate_job(files, spec, models, ks, reporter)
    show_scores(result, as_json=as_json, as_log=console.json)


Metric = Annotated[
    str, typer.Option("--metric", envvar="RANKLINE_METRIC", help="By which metric of each user, e.g. recall_at_10.")
]
Reason = Annotated[
    str | None, typer.Option("--reason", envvar="RANKLINE_REASON", metavar="TEXT", help="Why; recorded with it.")
]


@app.command("compare", epilog="Example: rankline compare rankline@champion rankline/3 --metric recall_at_10")
def _compare(
    run_a: Annotated[str, typer.Argument(help="A run's id (or its beginning) or name, rankline/3, rankline@champion.")],
    run_b: Annotated[str, typer.Argument(help="The run to set against it.")],
    metric: Metric = "ndcg_at_10",
    as_json: Annotated[bool, typer.Option("--json", envvar="RANKLINE_JSON", help="Print one JSON object.")] = False,
    log_format: LogFormat = "text",
    debug: Debug = False,
) -> None:
    """Set two runs beside each other, user by user: who gains, who loses, is it luck?

    B against A on the users and held-out interactions both were judged by, overall and for users with little
    (cold), some (warm) and much (hot) history: means, the difference with its 95 % bootstrap interval, p of
    Wilcoxon's signed-rank test, and how much the lists overlap (mean Jaccard). Refused where the runs were
    trained on different data or judged by different splits.
    """
    console = Console(log_format)
    settings = _settings()
    from pipeline import verdicts
    from pipeline.jobs.compare import compare_job

    with console.working() as reporter:
        result = compare_job(run_a, run_b, metric, settings, reporter)
    verdicts.compared(result, as_json, console.json)


@app.command("promote", epilog="Example: rankline promote rankline/3 --margin 0.02")
def _promote(
    model: Annotated[
        str | None, typer.Argument(help="rankline/3, or the run that registered it. Default: the newest version.")
    ] = None,
    margin: Annotated[
        float, typer.Option("--margin", envvar="RANKLINE_MARGIN", help="How much worse it may be, as a share.")
    ] = 0.05,
    segment_margin: Annotated[
        float,
        typer.Option("--segment-margin", envvar="RANKLINE_SEGMENT_MARGIN", help="How much a segment may fall."),
    ] = 0.2,
    metric: Metric = "ndcg_at_10",
    force: Annotated[
        bool, typer.Option("--force", envvar="RANKLINE_FORCE", help="Promote against the gate; needs --reason.")
    ] = False,
    reason: Reason = None,
    log_format: LogFormat = "text",
    debug: Debug = False,
) -> None:
    """Make a version the champion, if the gate holds; the decision is recorded on it either way.

    The gate: its artifacts load and their checksums hold; it was never rolled back; it is better than most popular
    (the 95 % interval of the difference is above 0); it was judged by the champion's split; the low end of the 95 %
    interval of its difference to the champion, user by user, is at or above -margin times the champion's mean; in no
    segment (cold, warm, hot) of at least 30 users does the mean fall by more than the segment margin with the
    interval wholly below 0. An interval too wide to tell does not pass; what is said then names the users or the
    margin that would do. Where there is no champion, beating most popular is enough. Where the champion was trained
    on other data, the two are compared by what each has more than most popular, and refused where that is worse
    beyond the margin with the interval wholly below 0. Exit status 3: not promoted. docs/promotion.md has the why.
    """
    console = Console(log_format)
    settings = _settings()
    from pipeline import verdicts
    from pipeline.jobs.promote import promote_job
    from pipeline.promotion import Gate

    gate = Gate(metric, margin, segment_margin)
    with console.working() as reporter:
        result = promote_job(model, gate, force, reason, settings, reporter)
    verdicts.promoted(result, console.json)
    if result.outcome == "refused":
        first, *others = result.decision.failed
        more = f" (and {len(others)} more of the gate's checks)" if others else ""
        raise NotPromotedError(f"{result.version} is not promoted: {first.summary}{more}")


@app.command("rollback", epilog='Example: rankline rollback --reason "complaints about the lists of new users"')
def _rollback(
    table: Annotated[
        bool,
        typer.Option(
            "--table",
            envvar="RANKLINE_TABLE",
            help="Not the champion: the published table goes back to the one before.",
        ),
    ] = False,
    keep: Annotated[
        int,
        typer.Option(
            "--keep", envvar="RANKLINE_KEEP", min=1, help="With --table: published tables to keep besides the newest."
        ),
    ] = 5,
    reason: Reason = None,
    log_format: LogFormat = "text",
    debug: Debug = False,
) -> None:
    """Make the champion before the champion again, or with --table the table before the published one.

    Repeated, each goes back one more.
    """
    console = Console(log_format)
    settings = _settings()
    if table:
        if reason is not None:
            raise UsageError("--reason is recorded with a champion: leave it out with --table")
        from pipeline.jobs.rollback_table import rollback_table_job

        with console.working() as reporter:
            rollback_table_job(keep, settings, reporter)
        return
    from pipeline import verdicts
    from pipeline.jobs.promote import rollback_job

    with console.working() as reporter:
        result = rollback_job(reason, settings, reporter)
    verdicts.rolled_back(result, console.json)


def _writable(text: str) -> Path:
    """A path to write to at the end, tried before the work begins."""
    path = Path(text)
    try:
        path.open("a").close()
    except OSError as error:
        raise UsageError(f"--version-file {text} can't be written ({error.strerror})") from None
    return path


def _settings() -> Any:
    from pydantic import ValidationError

    from pipeline.settings import Settings

    try:
        return Settings()
    except ValidationError as error:
        # Names and reasons, never values: one of them may be a password.
        bad = "; ".join(f"RANKLINE_{'_'.join(map(str, one['loc'])).upper()}: {one['msg']}" for one in error.errors())
        raise UsageError(bad) from None


def _interrupt(signum: int, frame: object) -> None:
    """A scheduler's SIGTERM is Ctrl-C: the run says so, nothing is half done (--on-interrupt keep: it ends the fit)."""
    # In the middle of a statement the store's library logs the traceback of what it then rolls back.
    logging.getLogger("sqlalchemy").setLevel(logging.CRITICAL + 1)
    raise KeyboardInterrupt


def main(arguments: list[str] | None = None) -> None:
    """Run a command; never returns. The scripts that MLproject runs come in here too."""
    arguments = sys.argv[1:] if arguments is None else arguments
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGINT, _interrupt)
    status = 0
    try:
        result = app(args=arguments, standalone_mode=False, prog_name="rankline")
        status = result if isinstance(result, int) else 0
        if status == INTERRUPTED:  # Typer's answer to Ctrl-C
            Console.failed("interrupted", arguments)
    except KeyboardInterrupt:
        Console.failed("interrupted", arguments)
        status = INTERRUPTED
    except typer.Exit as leave:
        status = leave.exit_code
    except RanklineError as error:
        if _debugging(arguments):
            raise
        Console.failed(str(error), arguments)
        status = error.exit_status
    except typer.Abort:
        Console.failed("interrupted", arguments)
        status = INTERRUPTED
    except typer.TyperException as error:
        # A wrong option or value; asking for nothing shows the help, and has no message.
        if message := error.format_message():
            Console.failed(f"{message} (rankline --help, or rankline COMMAND --help)", arguments)
        status = getattr(error, "exit_code", 2)
    except BrokenPipeError:
        # Whoever read our output has gone (`rankline sql … | head`).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 141
    except Exception as error:
        if _debugging(arguments):
            raise
        Console.failed(f"{type(error).__name__}: {error} (a fault of Rankline: --debug shows where)", arguments)
        status = 1
    sys.stdout.flush()
    sys.exit(status)


def _debugging(arguments: list[str]) -> bool:
    return "--debug" in arguments or os.environ.get("RANKLINE_DEBUG", "").lower() in ("1", "true", "yes")
