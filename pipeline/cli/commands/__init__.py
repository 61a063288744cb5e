"""The commands, one file each, in the order of `rankline --help`."""

# Importing a file adds its command to the app.
# isort: off
from pipeline.cli.app import app
from pipeline.cli.commands import (  # noqa: F401
    sample,
    init,
    sql,
    ship,
    forget,
    rules,
    doctor,
    check,
    schema,
    estimate,
    train,
    resume,
    tune,
    evaluate,
    compare,
    promote,
    rollback,
    score,
    serve,
    key,
    recommend,
    show,
    why,
    diff,
    experiment,
    nightly,
    retain,
    drift,
    backup,
    restore,
)
# isort: on

__all__ = ["app"]
