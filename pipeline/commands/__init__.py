"""The commands, a file each, in the order of `rankline --help`."""

# Each puts itself on the app when it is imported.
# isort: off
from pipeline.commands.app import app
from pipeline.commands import sample, init, sql, forget, doctor  # noqa: F401
from pipeline.commands import estimate, train, resume, tune, evaluate, compare, promote, rollback  # noqa: F401
from pipeline.commands import score, recommend, show, why, diff  # noqa: F401
# isort: on

__all__ = ["app"]
