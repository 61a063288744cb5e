"""The output of `score`, `diff` and `rollback --table`."""

from __future__ import annotations

from pipeline.cli.output.model import Block, Output, Table
from pipeline.jobs.diff import DiffResult
from pipeline.jobs.rollback import RollbackTableResult
from pipeline.jobs.score import ScoreResult
from pipeline.publishing.published_sets import PublishedSet, stamp

__all__ = ["diff_output", "rollback_table_output", "score_output"]


def score_output(result: ScoreResult) -> Output:
    """What was published and where, and the numbers of users who got short lists or none."""
    summary = result.summary
    blocks: list[Block] = [
        f"{result.outcome.action} {summary.n_rows:,} rows for {summary.n_with_items:,} of {summary.n_users:,} users "
        f"to {result.table} in {result.address}, from {result.model}, in {result.seconds:.1f} s"
    ]
    if result.parquet is not None:
        blocks.append(f"the same lists are in {result.parquet}, as Parquet")
    if summary.n_short:
        which = " that the limits let in" if result.is_limited else ""
        blocks.append(f"{summary.n_short:,} user(s) have fewer unseen items{which} than --k, and get those")
    if summary.n_promoted:
        blocks.append(f"{summary.n_promoted:,} of the rows are of promoted items; their source says so")
    if summary.n_flat:
        blocks.append(
            f"{summary.n_flat:,} user(s) have no item with a score above 0, so their lists are in the order of "
            "item ids; train with more --n-components, or with --min-interactions"
        )
    if summary.n_unknown:
        blocks.append(
            f"{summary.n_unknown:,} user(s) of the warehouse are not in the model; --unknown popular gives them a list"
        )
    data = {"model": result.model, "table": result.table, "n_users": summary.n_users, "n_rows": summary.n_rows}
    data["n_promoted"] = summary.n_promoted
    if result.parquet is not None:
        data["parquet"] = str(result.parquet)
    return Output(result.outcome.action, data, blocks)


def diff_output(diff: DiffResult) -> Output:
    """The differences of two published sets."""
    users = diff.users
    blocks: list[Block] = [f"{word}: {_table(which)}" for word, which in (("before", diff.a), ("after", diff.b))]
    blocks.append(
        f"users: {users['n_before']:,} → {users['n_after']:,}, {users['n_gained']:,} gained, {users['n_lost']:,} lost; "
        f"of {users['n_both']:,} in both {users['n_changed']:,} have another list"
    )
    if users["jaccard"] is not None:
        blocks.append(f"overlap of lists (Jaccard, mean over users in both): {users['jaccard']:.3f}")
    if diff.items:
        rows = [
            [
                str(row["item_id"]),
                diff.titles.get(str(row["item_id"]), ""),
                *(f"{row[name]:,}" for name in ("n_before", "n_after")),
                f"{row['change']:+,}",
            ]
            for row in diff.items
        ]
        columns = ["item", "title", "lists before", "after", "change"]
        title = "Items that gained and lost most lists"
        blocks.append(Table(columns, rows, left=("title",), short=("title",), title=title))
    return Output("compared", {"a": diff.a.table, "b": diff.b.table, **users, "items": diff.items}, blocks)


def rollback_table_output(result: RollbackTableResult) -> Output:
    """The set that is published again, and the table that keeps the newer set."""
    data = {
        "table": result.table, "version": result.now.model_version, "run_id": result.now.run_id,
        "kept": f"analytics.{result.before.kept_name}", "hidden_rows": result.hidden.n_rows,
        "hidden_items": list(result.hidden.items),
    }  # fmt: skip
    line = (
        f"{result.table} in {result.address} is the set of {_set(result.now)} again; "
        f"that of {_set(result.before)} is kept as analytics.{result.before.kept_name}"
    )
    lines: list[Block] = [line]
    if result.hidden.items:
        typed = result.now.names.typed
        lines.append(f"it has {result.hidden} that rules leave out. next: rankline score{typed}")
    return Output("rolled back the table", data, lines)


def _table(published: PublishedSet) -> str:
    return f"analytics.{published.table} (version {published.model_version or '–'}, run {published.run_id[:8] or '–'})"


def _set(published: PublishedSet) -> str:
    version = f"version {published.model_version}, " if published.model_version else ""
    return f"{stamp(published.at_ms)} ({version}run {published.run_id[:8] or 'unknown'})"
