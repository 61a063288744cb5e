"""Runs small inputs that are easily read wrongly, each with the command of its folder, and gives a verdict for each.

    python tests/cases.py FOLDER [NAME …]

A folder in FOLDER is a case: `cmd.txt` has its command, the other files are its input. `CASES` has what must come of
it. Exit status 1 where anything else does. A case that needs a server of its own is a test, which the verdict names.
"""

from __future__ import annotations

import argparse
import gzip
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Case:
    """What must come of a command.

    Attributes
    ----------
    says : regular expressions that the output must have
    status : exit status
    users : ids in the trained model; None: not looked at
    more : options that are added to the command: the way out that the product offers
    test : the file of the test, for a case that needs a server
    """

    says: tuple[str, ...] = ()
    status: int = 0
    users: tuple[int | str, ...] | None = None
    more: str = ""
    test: str = ""


ANONYMOUS = tuple(range(1, 31))

CASES: dict[str, tuple[Case, ...]] = {
    "bom-inside": (Case(users=(1, 2, 3)),),
    "csv-unbalanced-quote": (Case(("line 2",), 3),),
    "date-as-uint16": (Case(users=ANONYMOUS),),
    "dates-as-numbers": (Case((r"--time-format",), 3), Case(more="--time-format %Y%m%d", users=(1, 2))),
    "event-weights": (
        Case((r"event",)),
        Case(more="--event-column event --event-weights view=1,addtocart=3,transaction=5", users=(257597, 992329)),
    ),
    "excel-sep-line": (Case(users=(1, 2)),),
    "fixed16-not-uuid": (Case(users=("user-00000000001", "user-00000000002")),),
    "fixedstring-padded": (Case(users=tuple(sorted(f"u{n}" for n in ANONYMOUS))),),
    "float-ids-csv": (Case(users=(1, 2)),),
    "format-then-settings": (Case(users=tuple(range(30))),),
    "hash-comment": (Case(users=tuple(range(30))),),
    "header-again": (Case(("line 4", "header"), 3), Case(more="--on-bad-rows drop", users=(1, 2, 3))),
    "input-twice": (Case(users=(1, 2, 3, 4)),),
    "ipv4-ids": (Case(users=tuple(sorted(f"10.0.0.{n}" for n in ANONYMOUS))),),
    "ipv6-ids": (Case(users=tuple(sorted(f"2001:db8::{n}" for n in ANONYMOUS))),),
    "item-column-with-query": (Case(more="--min-data 1 --holdout 0", users=(1,)),),
    "latin1-other-column": (Case(("--encoding",), 3), Case(more="--encoding latin-1", users=(1,))),
    "mixed-seconds-milliseconds": (Case((r"seconds",), users=(1,)),),
    "negative-rating": (Case(("--on-negative",), 3), Case(more="--on-negative zero", users=(1, 2))),
    "no-header": (
        Case(("header",)),
        Case(more="--header user_id,item_id,rating,timestamp --holdout 0", users=(22, 186, 196)),
    ),
    "null-tokens-as-ids": (Case(("user_id is missing",), 3),),
    "other-separator": (Case(users=(1, 2)), Case(more="--separator |", users=(1, 2))),
    "parquet-gz": (Case(("gzip",), 3),),  # `written` makes its file, and that of spark-folder
    "pipe-input": (Case(),),
    "plain-to-tls-port": (Case(test="tests/warehouse/test_answers.py"),),
    "proxy-in-environment": (Case(("HTTP_PROXY", "NO_PROXY"), 4),),
    "query-weight-ignored": (Case(("weight", "event_date")),),
    "random-sample-query": (Case((r"another number of rows each time",), 3),),
    "readonly-1-user": (Case(test="tests/e2e/test_grants.py"),),
    "spark-folder": (Case(users=(1, 2, 3, 4)),),
    "tab-header-with-comma": (Case(),),
    "time-with-UTC": (Case(),),
    "uuid-on-older-server": (Case(("240 users, 40 items", "Unknown user '1'"), 3),),
    "wide-integer-ids": (Case(users=tuple(sorted(map(str, ANONYMOUS)))),),
}


def written(name: str, work: Path) -> None:
    """Write the input of a case whose folder only describes it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if name == "parquet-gz":
        pq.write_table(pa.table({"user_id": [1, 2], "item_id": [10, 10]}), work / "ratings.parquet")
        (work / "ratings.parquet.gz").write_bytes(gzip.compress((work / "ratings.parquet").read_bytes()))
    if name == "spark-folder":
        (work / "ratings.parquet").mkdir()
        (work / "ratings.parquet" / "_SUCCESS").touch()
        for part in range(2):
            table = pa.table({"user_id": [1 + part, 3 + part], "item_id": [10, 20]})
            pq.write_table(table, work / "ratings.parquet" / f"part-0000{part}.snappy.parquet")


def ran(folder: Path, command: str, home: Path) -> tuple[int, str]:
    """Exit status and output of the command in a copy of the folder, with stores of its own."""
    (home / "bin").mkdir(parents=True)
    for name, started in (("rankline", f"{sys.executable} -m pipeline"), ("python", sys.executable)):
        program = home / "bin" / name
        program.write_text(f'#!/bin/sh\nexec {started} "$@"\n')
        program.chmod(0o755)
    work = home / "work"
    shutil.copytree(folder, work)
    written(folder.name, work)
    env = {name: value for name, value in os.environ.items() if not name.startswith(("RANKLINE_", "MLFLOW_"))}
    env |= {
        "PATH": f"{home / 'bin'}{os.pathsep}{env['PATH']}",
        "PYTHONPATH": str(ROOT),
        "MLFLOW_TRACKING_URI": f"sqlite:///{home / 'mlflow.db'}",
        "RANKLINE_WAREHOUSE": f"chdb://{home / 'warehouse'}",
    }
    done = subprocess.run(
        ["bash", "-c", command], cwd=work, env=env, capture_output=True, text=True, timeout=300, check=False
    )
    return done.returncode, done.stdout + done.stderr


def users_of(home: Path) -> tuple[int | str, ...]:
    """The ids of the users in the newest model of the store."""
    from pipeline.models.model_files import METADATA
    from pipeline.models.saved_model import load_saved_model

    folders = [path.parent for path in home.rglob(METADATA) if path.parent.name == "artifacts"]
    newest = max(folders, key=lambda path: path.stat().st_mtime)
    return tuple(load_saved_model(newest).users.values.tolist())


def verdict(folder: Path, case: Case) -> str:
    """What is wrong, "" where everything is as it must be."""
    command = (folder / "cmd.txt").read_text().strip()
    if case.more:
        quoted = " ".join(f"'{word}'" for word in case.more.split(" "))
        command = re.sub(r"(rankline train [^&]*?)(\s*(?:&&|$))", rf"\1 {quoted}\2", command, count=1)
    with tempfile.TemporaryDirectory(prefix="rankline-case-") as scratch:
        status, output = ran(folder, command, Path(scratch) / "home")
        wrong = []
        if status != case.status:
            wrong.append(f"status {status}, not {case.status}: {' '.join(output.split())[-300:]}")
        missing = [said for said in case.says if not re.search(said, output)]
        wrong += [f"says nothing of {said!r}: {' '.join(output.split())[:300]}" for said in missing]
        if "Traceback" in output or "fault of Rankline" in output:
            wrong.append("a traceback")
        if not wrong and case.users is not None and (users := users_of(Path(scratch))) != case.users:
            wrong.append(f"users {users[:5]}, not {case.users[:5]}")
    return "; ".join(wrong)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*")
    arguments = parser.parse_args()
    names = arguments.names or sorted(path.name for path in arguments.folder.iterdir() if path.is_dir())
    n_wrong = 0
    for name in names:
        for case in CASES.get(name, ()):
            if case.test:
                print(f"{name}: see {case.test}")
                continue
            what = verdict(arguments.folder / name, case)
            n_wrong += bool(what)
            print(f"{name}{f' {case.more}' if case.more else ''}: {f'WRONG: {what}' if what else 'right'}", flush=True)
        if name not in CASES:
            n_wrong += 1
            print(f"{name}: WRONG: nothing is known of it")
    return 1 if n_wrong else 0


if __name__ == "__main__":
    sys.exit(main())
