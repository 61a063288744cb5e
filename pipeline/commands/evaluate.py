"""`rankline evaluate`."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.commands.app import app
from pipeline.commands.options import (
    Debug,
    LogFormat,
    options_of,
)
from pipeline.console import Console
from pipeline.evaluate_spec import EvaluateSpec, as_ks, as_models
from pipeline.spec import TrainSpec

__all__: list[str] = []


@app.command(
    "evaluate",
    rich_help_panel="Models",
    epilog="Example: rankline evaluate --train train.csv --test test.csv --model popular --k 10,20 --json",
)
@options_of(
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
