"""`rankline check`."""

from __future__ import annotations

import sys

from pipeline.cli.command import WAREHOUSE, Invocation, Outputs, command
from pipeline.options import ReadOptions

__all__: list[str] = []


@command(
    "check",
    panel=WAREHOUSE,
    examples=("rankline check --config rankline.yaml", "rankline check --source file --input ratings.csv"),
    specs=(ReadOptions,),
    named=True,
)
def _check(run: Invocation, read: ReadOptions) -> Outputs:
    """Try the options, the source and the stores; fit nothing.

    Also the source's columns and the data gate; nothing is changed. Exit status 0 where a training would come so far
    as to fit; 2 where an option makes no sense, 4 where a server can't be reached or refuses, 3 where something else
    fails.
    """
    from pipeline.cli.output.doctor import doctor_output
    from pipeline.jobs.check import check_job

    return doctor_output(check_job(read, run.settings, run.reporter, _to_stderr if run.debug else lambda _: None))


def _to_stderr(text: str) -> None:
    sys.stderr.write(text + "\n")
