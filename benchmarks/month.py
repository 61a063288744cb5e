"""A simulated month in one process: thirty nightly jobs, and what may go wrong in a month.

    python benchmarks/month.py [--data FOLDER] [--seed 1] [--nights 30] [--picture docs/month.png] [--json FILE]

FOLDER holds MovieTweetings (ratings.dat, movies.dat), whose last weeks are played by their own dates; MONTH_DATA names
it, too. Without it a month is made up from the seed. Each night a day's ratings, users and films come in, and
`run_nightly` is told that it is 02:00 of the next day. Once each: a day's ratings are ten times too high, a training
crashes, MLflow is away, a model is worse than it could be, and a campaign brings a crowd for a few films.

It asserts that the published table is never missing, never worse than that of the night before by more than the gate's
margin, and that alerts fire on the nights when they should and on no others; it ends with 1 where that does not hold.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import machine
import numpy as np
from month_data import HIGHEST, Events, Films, made_up, movietweetings
from month_lists import Lists, ndcg_of, popular_lists, read_lists
from month_picture import NightFacts, draw

NIGHTS = 30
WEEK = timedelta(days=7)
# What happens, on which night of thirty, and the kinds of alerts that must fire on it; none fire on any other.
BROKEN, CRASH, AWAY, WORSE, CAMPAIGN = (
    "ratings\nare broken",
    "a training\ncrashes",
    "MLflow\nis away",
    "a worse\nmodel",
    "a campaign",
)
EVENTS = {8: BROKEN, 13: CRASH, 16: CAMPAIGN, 18: AWAY, 22: WORSE}
EXPECTED = {
    BROKEN: {"training_failed"},
    CRASH: {"training_failed"},
    AWAY: {"training_failed"},
}


@dataclass
class Month:
    """What is there, and what was seen of it."""

    home: Path
    events: Events
    films: Films
    first: datetime  # the first night's day
    what_happens: dict[int, str]  # by night
    nights: list[NightFacts] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    now: datetime = datetime(1970, 1, 1, tzinfo=UTC)
    lists: Lists | None = None
    refusals: int = 0  # of the gate, in a row
    promoted: int = 0  # the last night that had a new champion

    def check(self, holds: bool, what: str) -> None:
        """Note what does not hold."""
        if not holds:
            self.faults.append(f"night {len(self.nights) + 1}: {what}")
            print(f"  FAULT: {what}", flush=True)


def main() -> int:
    """Play the month, print a line a night, draw it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("MONTH_DATA"), metavar="FOLDER")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--nights", type=int, default=NIGHTS)
    parser.add_argument("--history", type=int, default=30, metavar="DAYS", help="that are there when the month begins")
    parser.add_argument("--picture", type=Path, metavar="PNG")
    parser.add_argument("--json", type=Path, metavar="FILE", help="what was seen, night by night")
    options = parser.parse_args()
    begun = time.perf_counter()
    if options.data and (Path(options.data) / "ratings.dat").exists():
        events, films = movietweetings(Path(options.data))
        what = "MovieTweetings, 2013"
    else:
        events, films = made_up(options.seed)
        what = f"a month made up from seed {options.seed}"
        print(f"no ratings.dat {f'in {options.data}' if options.data else '(--data names its folder)'}: {what}")
    print(machine.describe("numpy", "mlflow", "chdb"))
    last = datetime.fromtimestamp(int(events.at[-1]), UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    with tempfile.TemporaryDirectory(prefix="rankline-month-") as home:
        # The last week has no night of its own: the lists of the last night are judged by it.
        first = last - WEEK - timedelta(days=options.nights - 1)
        events = events.between(first - timedelta(days=options.history), last + timedelta(days=1))
        happens = {round(number * options.nights / NIGHTS): event for number, event in EVENTS.items()}
        month = Month(Path(home), events, films, first, happens)
        with _environment(Path(home)):
            play(month, options.nights)
    seconds, cpu = time.perf_counter() - begun, time.process_time()
    took = f"in {seconds:.0f} s ({cpu:.0f} s of CPU)"
    print(f"\n{len(month.nights)} nights {took}, {machine.peak_mb():,.0f} MB at the peak; {what}")
    if options.picture:
        minutes = f"{seconds / 60:.1f} minutes ({cpu / 60:.1f} of CPU)"
        draw(month.nights, f"{what}: {len(month.nights)} nightly jobs in {minutes}", options.picture)
    if options.json:
        options.json.write_text(json.dumps([asdict(night) for night in month.nights], default=str, indent=1))
    for fault in month.faults:
        print(f"does not hold: {fault}")
    print("all holds" if not month.faults else f"{len(month.faults)} sentence(s) do not hold")
    return bool(month.faults)


@contextmanager
def _environment(home: Path) -> Iterator[None]:
    """A home of its own, without the variables of whoever runs this."""
    keep = {name: value for name, value in os.environ.items() if not name.startswith(("RANKLINE_", "MLFLOW_"))}
    own = {
        "MLFLOW_TRACKING_URI": f"sqlite:///{home / 'mlflow.db'}",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "RANKLINE_WAREHOUSE": f"chdb://{home / 'warehouse'}",
        "RANKLINE_LIMIT_MAX_SCORE": f"{HIGHEST:g}",
    }
    with patch.dict(os.environ, keep | own, clear=True):
        yield


def play(month: Month, n_nights: int) -> None:
    """All nights, one after the other."""
    from pipeline.jobs.inputs import open_warehouse
    from pipeline.publishing.recommendations_table import RecommendationsTable
    from pipeline.settings import Settings

    settings = Settings()
    before = month.events.between(datetime(1970, 1, 1, tzinfo=UTC), month.first)
    with open_warehouse(settings) as warehouse:
        from pipeline.data.sources.warehouse import init

        init(warehouse)
        _load(warehouse, month, before, before)
    print(f"{len(before):,} ratings before {month.first:%Y-%m-%d}")

    def now_ms(_table: RecommendationsTable) -> int:
        return int(month.now.timestamp() * 1000)

    # A set is known by when it was generated, by the server's clock: here that is the month's.
    with patch.object(RecommendationsTable, "_now", now_ms):
        for number in range(1, n_nights + 1):
            _night(month, number, settings)


def _load(warehouse: Any, month: Month, events: Events, before: Events) -> tuple[int, int]:
    """Load events, and the users and films that they are the first of; returns how many of each."""
    import pyarrow as pa

    known = (np.zeros(0, np.int64), np.zeros(0, np.int64)) if before is events else (before.users, before.items)
    users, items = np.setdiff1d(events.users, known[0]), np.setdiff1d(events.items, known[1])
    for table, rows in (
        ("raw.users", pa.table({"user_id": users})),
        ("raw.movies", month.films.of(items)),
        ("raw.ratings", events.arrow),
    ):
        if rows.num_rows:
            warehouse.insert(table, rows)
    return int(users.size), int(items.size)


def _night(month: Month, number: int, settings: Any) -> None:
    """A day's events come in, the job runs, and its outcome is looked at."""
    from pipeline.jobs.inputs import open_warehouse
    from pipeline.jobs.nightly import run_nightly

    day, event = month.first + timedelta(days=number - 1), month.what_happens.get(number, "")
    month.now = day + timedelta(days=1, hours=2)
    today = month.events.between(day, day + timedelta(days=1))
    if event == CAMPAIGN:
        today = campaign(today, month.events, day)
        month.events = merged(month.events, today)
    before = month.events.between(datetime(1970, 1, 1, tzinfo=UTC), day)
    with open_warehouse(settings) as warehouse:
        if month.what_happens.get(number - 1) == BROKEN:  # the load was mended, and is done again
            yesterday = (day - timedelta(days=1)).date().isoformat()
            warehouse.command(
                "ALTER TABLE raw.ratings DELETE WHERE toDate(rated_at) = {day:Date}",
                {"day": yesterday},
                mutations_sync=2,
            )
            warehouse.insert("raw.ratings", month.events.between(day - timedelta(days=1), day).arrow)
        loaded = Events(today.users, today.items, today.ratings * 10, today.at) if event == BROKEN else today
        n_users, n_items = _load(warehouse, month, loaded, before)
    with ExitStack() as stack:
        faults(stack, event, month.home)
        start = time.perf_counter()
        result = run_nightly(request_of(event, month, settings))
        seconds = time.perf_counter() - start
        if os.environ.get("MONTH_TALKS"):
            print(
                "    ",
                {step.name: (step.state, step.seconds) for step in result.steps},
                f"{time.process_time():.1f} CPU s",
            )
    with open_warehouse(settings) as warehouse:
        lists = read_lists(warehouse)
    month.check(lists is not None, "the table is missing")
    facts = _look(month, lists, day, result, seconds, (len(today), n_users, n_items))
    month.nights.append(facts)
    month.lists = lists if lists is not None else month.lists
    print(
        f"{number:>2} {day:%Y-%m-%d}  {len(today):>5,} ratings  {facts.outcome:<22} {facts.version:<12} "
        f"NDCG {facts.ndcg:.4f} (before {facts.before:.4f}, popular {facts.popular:.4f})  {seconds:4.1f} s  "
        f"{', '.join(facts.alerts)}",
        flush=True,
    )


def _look(
    month: Month, lists: Lists | None, day: datetime, result: Any, seconds: float, came_in: tuple[int, int, int]
) -> NightFacts:
    """Compare tonight's table with that of the night before, on the week that follows, and check the alerts."""
    number = len(month.nights) + 1
    truth = month.events.between(month.now, month.now + WEEK)
    past = month.events.between(datetime(1970, 1, 1, tzinfo=UTC), month.now)
    of_week = ndcg_of(truth, past, [lists, month.lists, popular_lists(truth, past)])
    ndcg, before, popular = (float(values.mean()) if values.size else float("nan") for values in of_week)
    if month.lists is not None and lists is not None:
        month.check(
            ndcg >= before * (1 - MARGIN), f"NDCG fell from {before:.4f} to {ndcg:.4f}, past the margin {MARGIN}"
        )
        month.check(len(lists) >= 0.95 * len(month.lists), f"{len(month.lists):,} users had a list, now {len(lists):,}")
    told = result.to_json()
    alerts = tuple(sorted({str(alert["kind"]) for alert in told["alerts"]}))
    event = month.what_happens.get(number, "")
    gate, in_use = result.step("gate"), month.promoted
    if gate is not None and gate.state in ("done", "stopped"):
        month.refusals = month.refusals + 1 if gate.state == "stopped" else 0
        month.promoted = number if gate.state == "done" else month.promoted
    expected = set(EXPECTED.get(event, set())) | ({"gate_refused"} if month.refusals >= 3 and event != AWAY else set())
    # New is what came in since the champion learned that was in use: a campaign is, until a champion has learned it.
    began = next((night for night, what in month.what_happens.items() if what == CAMPAIGN), math.inf)
    expected |= {"drift"} if in_use < began <= number and event != AWAY else set()
    # A champion that learned from nothing newer than eight days is told of, too: the gate has refused all since.
    lag = 24 * (number - month.promoted)
    expected |= {"drift"} if lag > (drift_limits().max_model_lag_hours or math.inf) else set()
    month.check(
        set(alerts) == expected, f"alerts {set(alerts) or '{}'} instead of {expected or '{}'}: {told['alerts']}"
    )
    return NightFacts(
        number, day.date(), ndcg, before if month.lists is not None else float("nan"), popular, *came_in,
        how=str(told["how"] or "none"), outcome=_outcome(told), event=event,
        drift=_drift(told), alerts=alerts, seconds=seconds, version=str(told["published"] or ""),
    )  # fmt: skip


def _outcome(told: dict[str, Any]) -> str:
    ended = [f"{step['name']} {step['state']}" for step in told["steps"] if step["state"] in ("stopped", "failed")]
    return ended[0] if ended else str(told["how"])


def _drift(told: dict[str, Any]) -> dict[str, float]:
    """Value over limit of the measures that have an upper limit."""
    limits = drift_limits()
    names = {
        "psi_popularity": limits.max_psi,
        "psi_scores": limits.max_score_psi,
        "unknown_users": limits.max_unknown_users,
        "unknown_items": limits.max_unknown_items,
        "model_lag_hours": limits.max_model_lag_hours,
        "table_age_hours": limits.max_table_age_hours,
    }
    measures = next((step["facts"] for step in told["steps"] if step["name"] == "drift"), {}).get("measures", {})
    return {name: float(measures[name]) / limit for name, limit in names.items() if limit and name in measures}


MARGIN = 0.05  # of the gate, by default


def drift_limits() -> Any:
    """The defaults but one: scores of a model trained anew each night on scores that fade move by up to 0.7."""
    from pipeline.options import DriftLimits

    return DriftLimits(max_score_psi=None)


def request_of(event: str, month: Month, settings: Any) -> Any:
    """What the night is asked for."""
    from pipeline.jobs.nightly import NightlyRequest
    from pipeline.options import NightlyOptions, TrainOptions
    from pipeline.runtime.progress import Reporter

    said = lambda line: print(f"     {line}") if os.environ.get("MONTH_TALKS") else None  # noqa: E731
    train = TrainOptions(algorithm="als", n_components=16, half_life_days=30.0)
    if event == WORSE:
        # Another algorithm, untuned. (A single factor, fitted for one iteration, ranks no worse here on the holdout.)
        train = TrainOptions(n_components=16, max_iter=30)
    anew = NightlyOptions(refit_after=0.0) if event in (CRASH, WORSE) else NightlyOptions()
    return NightlyRequest(
        settings, Reporter(said, lambda *_: None), month.now, train=train, nightly=anew, drift_limits=drift_limits()
    )


def faults(stack: ExitStack, event: str, home: Path) -> None:
    """What goes wrong on the night."""
    if event == CRASH:

        def crashes(*_: object, **__: object) -> None:
            raise RuntimeError("a fault in the training, as planned")

        stack.enter_context(patch("pipeline.jobs.train.train", crashes))
    if event == AWAY:
        stack.enter_context(store_away(home / "mlflow.db"))


@contextmanager
def store_away(path: Path) -> Iterator[None]:
    """MLflow's store can't be opened: a disk that is not mounted looks like this."""
    away = path.with_name("away.db")
    path.rename(away)
    path.mkdir()
    try:
        yield
    finally:
        path.rmdir()
        away.rename(path)


def campaign(today: Events, all_events: Events, day: datetime) -> Events:
    """The day's events, and six hundred by new users on five films that few knew."""
    rng = np.random.default_rng(27)
    films, counts = np.unique(all_events.between(datetime(1970, 1, 1, tzinfo=UTC), day).items, return_counts=True)
    chosen = films[counts == 3][:5]
    n = 600
    users = int(all_events.users.max()) + 1 + np.repeat(np.arange(n // 4), 4)
    items = np.concatenate([rng.permutation(chosen)[:4] for _ in range(n // 4)])
    at = int(day.timestamp()) + np.sort(rng.integers(0, 86_400, n))
    more = Events(users, items, np.full(n, 9, np.float32), at)
    return merged(today, more)


def merged(one: Events, other: Events) -> Events:
    """Both, each pair of user and item once, in the order of their times."""
    columns = [np.concatenate(pair) for pair in zip(_columns(one), _columns(other), strict=True)]
    _, first = np.unique(np.column_stack(columns[:2]), axis=0, return_index=True)
    users, items, ratings, at = (column[first] for column in columns)
    order = np.argsort(at, kind="stable")
    return Events(users[order], items[order], ratings[order], at[order])


def _columns(events: Events) -> Sequence[Any]:
    return events.users, events.items, events.ratings, events.at


if __name__ == "__main__":
    sys.exit(main())
