"""The page docs/options.md, made from the options of the commands. `make mlproject` writes it and MLproject."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.options.base import as_text
from pipeline.options.sections import sections

__all__ = ["options_page"]

_HEAD = """\
# Options

<!-- Made by `make mlproject` from pipeline/options: change those, and make it anew. -->

`rankline COMMAND --help` shows the options of a command. An option can come from four places. The first that has it
wins:

1. the command line: `--max-iter 100`
2. the environment: `RANKLINE_MAX_ITER=100`
3. a file of options: `--config rankline.yaml` (or `RANKLINE_CONFIG`)
4. the default

`mlflow run -P` takes the same names with underscores: `-P max_iter=100`. The values that `mlflow run` passes,
MLproject's defaults too, stand above the environment and the file.

[config.md](config.md) describes the file. Below are its sections. The name of an option on the command line has
dashes: `max_iter` is `--max-iter`. The keys of `data_gate` are settings: `max_shrink` is `RANKLINE_LIMIT_MAX_SHRINK`.
"""

_TAIL = """
## Options that belong to no section

| option | default | what it does |
|---|---|---|
| `--config` | none | the file of options |
| `--experiment-name` | rankline | MLflow's experiment (`MLFLOW_EXPERIMENT_NAME`, `…_ID`); under `mlflow run` its own |
| `--version-file` | none | `train` and `tune` write the version (`rankline/7`) to this file for a script |
| `--log-format` | text | `json`: one object a line, with timestamp, level, service, message, metadata |
| `--debug` | | show tracebacks |
| `--help-all` | | show the help of every option; `--help` shows of advanced options the names alone |
| `promote --force`, `--reason` | | promote against the gate, and why |
| `rollback --table`, `--keep` | , 5 | roll back the published table instead of the champion; how many sets are kept |
| `key --scope` | read | what a key allows: read, write, admin, metrics |
| `compare --metric` | ndcg_at_10 | by which metric of each user |
| `evaluate --train`, `--test` | | the files to learn from and to measure on: [files.md](files.md) |
| `evaluate --relevant-from` | none | a row of `--test` is relevant if its score is at least this |
| `evaluate --negatives`, `--negatives-file` | none | how many items each held-out item is ranked among, or which |
| `evaluate --exclude-seen-negatives` | | leave out given negatives that their user has in training |
| `evaluate --folds`, `--folds-of` | none, interactions | parts of `--train`, each held out once, and of what |
| `evaluate --repeats` | 1 | seeds to evaluate with |
| `evaluate --clip` | yes | cut estimated ratings to the range of those of training before rmse and mae |
| `evaluate --model`, `--k` | nmf,popular, 10 | models (`nmf:n_components=50`) and lengths of lists, with commas |
| `recommend --k`, `--unknown` | 10, error | most items; `popular`: popular items for a user who is not in the model |
| `drift --now` | the clock | measure as of this time, such as 2026-11-29T02:00 (UTC) |
| `--notify`, `--notify-hours` | none, 20 | who is told of alerts, and when again ([monitoring.md](monitoring.md)) |
| `retain --dry-run` | | say what would go, and delete nothing: [nightly.md](nightly.md) |
| `restore --replace`, `--dry-run` | no | put back what is newer here; verify alone: [operations.md](operations.md) |
| `score --parquet` | | a new folder of the lists as Parquet: [spark-scoring.md](spark-scoring.md) |
| `score --fill-cache` | | store each user's list in the Redis of the service besides: [serving.md](serving.md) |
| `experiment --versions`, `--split` | , 50,50 | `start`: two versions, percentages: [experiments.md](experiments.md) |
| `experiment --winner`, `--days` | auto, 28 | `stop`: whom to promote; `aa-check`: the last days of the data |
| `experiment --channel`, `--decision`, `--off-policy` | auto | `report`: whose lists; the file; refused |
| `show --user`, `--no-metrics` | the first | whose list is shown; leave out the metrics |
| `why --model` | none | explain with other artifacts than those of the run that the table names |
| `sql --output` | | `table`, `tsv` or `json`; default: a table on a terminal, else `tsv` |
| `--json` | | print one JSON object instead of a table (each command but `sql` and `schema`) |
| `rules --replace` | | the rules of the file take the place of all that are there |
| `forget --yes`, `--dry-run` | | don't ask; count and name, change nothing |
| `forget --again`, `--lift` | | delete what has come back of all forgotten users; let the user have a list again |

## Settings that are no options

[warehouse.md](warehouse.md) has the settings of the warehouse and of the memory limit, such as `RANKLINE_WAREHOUSE`.
They belong to no one command, and a process list shows options. [data-gate.md](data-gate.md) has the limits of the
data, `RANKLINE_LIMIT_…`.
"""


def options_page() -> str:
    """The text of docs/options.md."""
    return "\n".join([_HEAD, *_tables()]) + _TAIL


def _tables() -> Iterator[str]:
    for section, options in sections().items():
        yield f"## `{section}`\n\n| option | default | values | what it does |\n|---|---|---|---|"
        for name, option in options.items():
            values = option.kind.choices.replace("|", " · ")
            texts = (option.field.metadata["help"], option.field.metadata["details"])
            what = " ".join(filter(None, texts)).replace("|", "\\|")
            yield f"| `{name}` | {as_text(option.field.default)} | {values} | {what} |"
        yield ""
