"""`rankline evaluate`."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli.command import MODELS, Invocation, Outputs, command
from pipeline.models import registry
from pipeline.options import EvaluateOptions, TrainOptions, as_ks

__all__: list[str] = []


@command(
    "evaluate",
    panel=MODELS,
    examples="rankline evaluate --train train.csv --test test.csv --model popular --k 10,20 --json",
    specs=(EvaluateOptions, TrainOptions),
    without=("algorithm", "budget_minutes", "holdout", "on_interrupt", "split", "split_last", "split_cutoff"),
    defaults={"min_data": 1},
)
def _evaluate(
    run: Invocation,
    files: EvaluateOptions,
    spec: TrainOptions,
    model: Annotated[
        list[str],
        typer.Option(
            "--model",
            metavar="|".join((*registry.names(), *(average.name for average in registry.averages()), "VERSION")),
            help="One or more, with commas or repeated; each takes the options of training that it has, and those "
            "after its name: nmf,nmf:n_components=50. A registered version, rankline/3, stands for its kind and "
            "options. Not from the environment.",
        ),
    ] = [f"{registry.DEFAULT.name},{registry.POPULAR}"],  # noqa: B006  Typer copies it
    k: Annotated[
        list[str],
        typer.Option("--k", metavar="INTEGERS", help="Lengths of lists, with commas: 10,20. Not from the environment."),
    ] = ["10"],  # noqa: B006  Typer copies it
    exclude_seen_negatives: Annotated[
        bool,
        typer.Option(
            "--exclude-seen-negatives",
            envvar="RANKLINE_EXCLUDE_SEEN_NEGATIVES",
            help="Leave out given negatives that their user has in --train.",
        ),
    ] = False,
) -> Outputs:
    """Fit models to one file, evaluate them on another, or on folds.

    All training items are ranked for each user, without those they have in training; or, with negatives, each
    held-out item among its own. Highest score first, equal scores by item id, whatever the model: how many were
    decided so is said. An item that training does not know ranks last; users it does not know are counted and left out.

    --train a,b --test c,d are two folds, --folds 5 makes five of --train, and --repeats 3 evaluates with three seeds:
    metrics are then means over them, with their standard deviation (spread in --json, and runs with each one).

    --json prints the metrics of the first model at the top level (ndcg_at_10, recall_at_20, …) beside model,
    protocol, k, n_users, n_held_out and digests; models has those of every model by its name, and fits the options,
    iterations, loss, seconds and memory of its fit. rmse and mae are of models that estimate ratings.
    """
    ks = as_ks(k)
    from pipeline.cli.output.evaluation import evaluation_output
    from pipeline.jobs.evaluate import evaluate_job

    return evaluation_output(evaluate_job(files, spec, model, ks, run.reporter, exclude_seen_negatives))
