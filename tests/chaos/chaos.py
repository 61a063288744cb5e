"""Real jobs, killed with SIGKILL at random moments and started again, while a reader looks at the published table.

    python tests/chaos/chaos.py [--kills 20] [--seed 1] [--embedded-share 0.2] [--rivals-share 0.3]
                               [--signal KILL|INT|TERM] [--folder PATH]
                               [--fork-all]

Three series. Over HTTP: train and score are clients of one engine in a process of its own, which lives on, and a reader
polls analytics.recommendations all the while. Embedded: the engine dies with the job, and a look follows each kill;
now and then in an empty folder, so that the first use of a store and of a warehouse is killed too.

Kills are spread evenly over four stages, which the job's own log lines tell (``--log-format json``): loading (the
store is opened, the run begun, the data or the model read), training (matrix, holdout, fit, evaluation), logging
(artifacts, models, pages, registration) and publishing (ranking into the staged table, checks, the exchange, what is
kept). Within its stage a kill comes after a random share of the time that the stage took the last time; the stage it
hit is the one counted.

After each kill the same command is started again and must end with status 0. Then: rows as the artifacts give them,
no run left RUNNING, no staged table and no lock, every registered version whole, the store whole. Every poll must find
one whole set: one run, version and time, every user, ranks 1…k, distinct, known and unseen items, finite scores that
do not rise; and the rows that the artifacts of its run give. Exit status 1 where anything was otherwise; the folder is
then kept.

The jobs of the HTTP series are forked from a process that has imported what they need, so that a kill hits the work
and not Python's start; those of the embedded series are started as a user starts them, unless --fork-all is given.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

ROOT = Path(__file__).resolve().parents[2]
# The tree that this file stands in, wherever it is run from, in place of the folder of this file.
sys.path[:1] = [str(ROOT), str(ROOT / "tests")]

from chaos.expected import Reader, Right  # noqa: E402
from chaos.jobs import STAGES, forked, started  # noqa: E402
from chaos.rivals import FAULTS, Rivals  # noqa: E402
from chaos.series import Embedded, Series, Tally  # noqa: E402
from support.fork import the_fork_server  # noqa: E402


def engine(folder: Path) -> tuple[subprocess.Popen[str], str]:
    """The engine behind an HTTP endpoint, in a process of its own, and its address."""
    program = [
        sys.executable,
        str(ROOT / "tests" / "support" / "clickhouse_http.py"),
        str(folder / "engine"),
        "chaos",
        "chaos",
    ]
    log = (folder / "engine.log").open("w")  # of clients that were killed it says that they broke off
    process = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
    assert process.stdout is not None
    return process, f"clickhouse://chaos:chaos@127.0.0.1:{int(process.stdout.readline())}"


def forget_log(dsn: str) -> None:
    """The test server remembers every statement; nobody asks it for them here."""
    from urllib.request import Request, urlopen

    address = "http://" + dsn.rpartition("@")[2]
    with urlopen(Request(f"{address}/-/clear", data=b"", method="POST"), timeout=30) as answer:
        answer.read()


def run(asked: argparse.Namespace, folder: Path, console: Console) -> bool:
    right, tally, rng, number = Right(), Tally(), random.Random(asked.seed), signal.Signals[f"SIG{asked.signal}"]
    n_embedded, n_rivals = (round(asked.kills * share) for share in (asked.embedded_share, asked.rivals_share))
    n_http = asked.kills - n_embedded - n_rivals
    columns = (TextColumn("{task.description:<44}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    forks, readers = the_fork_server(), []
    with Progress(*columns, console=console) as bars:
        task = bars.add_task("beginning", total=asked.kills)

        def go_through(series: Series, kills: int) -> None:
            readers.append(series.reader)
            try:
                series.warm_up()
                done = 0
                while done < kills and len(tally.wrong) < 20:
                    if series.kill(series.next_stage()):
                        done += 1
                        wrong = len(tally.wrong) + sum(len(reader.wrong) for reader in readers)
                        sentence = f"{series.name}: {series.reader.polls:,} polls, {wrong} wrong"
                        bars.update(task, advance=1, description=sentence)
                    if not isinstance(series, Embedded):
                        forget_log(series.dsn)
                series.polled_rows()
            except AssertionError as error:
                series.complain(f"it did not begin: {error}")

        for name, kind, n in (("HTTP", Series, n_http), ("rivals", Rivals, n_rivals)):
            if n <= 0:
                continue
            home = folder / name.lower()
            home.mkdir(parents=True, exist_ok=True)
            server, dsn = engine(home)
            series = kind(name, home, dsn, partial(forked, home, forks), right, tally, rng, number)
            stop = series.reader.keep_looking(dsn)
            try:
                go_through(series, n)
            finally:
                stop()
                server.communicate("")
        if n_embedded:
            home = folder / "embedded"
            start = partial(forked, home, forks) if asked.fork_all else partial(started, home)
            dsn = f"chdb://{home / 'warehouse'}"
            go_through(Embedded("embedded", home, dsn, start, right, tally, rng, number), n_embedded)
    return report(tally, readers, asked, folder, console)


def report(tally: Tally, readers: list[Reader], asked: argparse.Namespace, folder: Path, console: Console) -> bool:
    table = Table(title=f"SIG{asked.signal}, seed {asked.seed}", title_justify="left")
    table.add_column("")
    for stage in (*STAGES, "all"):
        table.add_column(stage, justify="right")
    for name in sorted({name for name, _ in tally.kills} - {"rivals"}):
        counts = [tally.kills[name, stage] for stage in STAGES]
        table.add_row(f"kills, {name}", *(str(one) for one in (*counts, sum(counts))))
    if of_rivals := [tally.kills["rivals", fault] for fault in FAULTS if tally.kills["rivals", fault]]:
        table.add_row(f"two jobs: {', '.join(FAULTS)}", *map(str, of_rivals), str(sum(of_rivals)))
    table.add_section()
    n_kills, n_wrong = sum(tally.kills.values()), sum(len(one.wrong) for one in readers)
    for name, value in (
        ("polls", f"{sum(one.polls for one in readers):,}"),
        ("wrong polls", n_wrong),
        ("sets seen", sum(len(one.found) for one in readers)),
        ("restarts that finished", f"{tally.finished} of {tally.restarts}"),
        ("runs RUNNING after a kill, ended by the restart", tally.left_running),
        ("other violations", len(tally.wrong)),
        ("jobs that were over before the kill came", tally.over),
    ):
        table.add_row(name, *[""] * len(STAGES), str(value))
    console.print(table)
    ok = n_kills >= asked.kills and not n_wrong and not tally.wrong and tally.finished == tally.restarts
    for one in [*tally.wrong, *(line for reader in readers for line in reader.wrong)][:20]:
        console.print(f"wrong: {one}", markup=False, soft_wrap=True)
    console.print(f"verdict: {'unharmed' if ok else f'violations; everything is kept in {folder}'}", soft_wrap=True)
    return ok


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--embedded-share", type=float, default=0.2, help="of the kills, 0–1")
    parser.add_argument(
        "--rivals-share", type=float, default=0.3, help="of two jobs at once, one stopped or held back, 0–1"
    )
    parser.add_argument("--signal", choices=("KILL", "INT", "TERM"), default="KILL")
    parser.add_argument("--folder", type=Path, help="where to work; default: a temporary one, removed if all is well")
    parser.add_argument("--fork-all", action="store_true", help="fork the embedded jobs too: quicker")
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="rankline-chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    console = Console(width=None if sys.stdout.isatty() else 120)
    ok = run(arguments, folder, console)
    if ok and arguments.folder is None:
        shutil.rmtree(folder, ignore_errors=True)
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
