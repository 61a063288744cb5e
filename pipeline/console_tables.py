"""What `why` and `diff` show: sentences and tables on stdout."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.console import Console

if TYPE_CHECKING:
    from pipeline.jobs.diff import Diff
    from pipeline.jobs.why import Why

__all__ = ["show_diff", "show_why"]


def show_why(console: Console, why: Why) -> None:
    """A row of the table and what it is made of."""
    if console.json:
        console.result(
            "explained",
            {
                "user": why.user, "item": why.item, "model": why.model, "source": why.source, "score": why.score,
                "served_rank": why.served_rank, "served_score": why.served_score, "rank": why.rank,
                "n_unseen": why.n_unseen, "contributions": {one.component: one.contribution for one in why.factors},
            },
        )  # fmt: skip
        return
    name = f"{why.item}{_title(why.titles, why.item)}"
    if why.served_rank is None:
        console.print(f"item {name} is not in the published list of user {why.user}")
        if why.source == "popular":
            console.print(f"the user is not in {why.model}; {why.score:,.0f} users of it have met the item")
            return
        place = "the user has seen it" if why.rank is None else f"it is number {why.rank:,} of {why.n_unseen:,} unseen"
        console.print(f"by {why.model} its score is {why.score:.9g}: {place}")
    else:
        console.print(
            f"item {name} is number {why.served_rank} in the list of user {why.user}: "
            f"score {why.served_score:.9g}, by {why.model} ({why.source})"
        )
        if why.source == "popular":
            console.print(
                f"the user is not in the model: what is popular stands in, by the number of its users who met it "
                f"({why.score:,.0f})"
            )
    if not why.factors:
        return
    console.print(f"score = Σ w·h over {why.n_components} factors; those that put in most:")
    from rich.table import Table

    table = Table()
    for column, justify in (
        ("factor", "right"),
        ("w·h", "right"),
        ("share", "right"),
        ("seen items that load most on it", "left"),
    ):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]  # rich wants a Literal
    for one, items in zip(why.factors, why.items, strict=True):
        share = f"{one.contribution / why.score:.0%}" if why.score else ""
        seen = ", ".join(f"{item}{_title(why.titles, item)}" for item in items)
        table.add_row(str(one.component), f"{one.contribution:.6g}", share, seen)
    console.print(table)


def show_diff(console: Console, diff: Diff) -> None:
    """Two published sets side by side."""
    if console.json:
        console.result("compared", {"a": diff.a.table, "b": diff.b.table, **diff.users, "items": diff.items})
        return
    users = diff.users
    for word, one in (("before", diff.a), ("after", diff.b)):
        console.print(
            f"{word}: analytics.{one.table} (version {one.model_version or '–'}, run {one.run_id[:8] or '–'})"
        )
    console.print(
        f"users: {users['n_before']:,} → {users['n_after']:,}, {users['n_gained']:,} gained, {users['n_lost']:,} lost; "
        f"of {users['n_both']:,} in both {users['n_changed']:,} have another list"
    )
    if users["jaccard"] is not None:
        console.print(f"overlap of lists (Jaccard, mean over users in both): {users['jaccard']:.3f}")
    if not diff.items:
        return
    from rich.table import Table

    table = Table("item", "title", "lists before", "after", "change", title="Items that won and lost most")
    for row in diff.items:
        title = diff.titles.get(str(row["item_id"]), "")
        table.add_row(str(row["item_id"]), title, f"{row['n_before']:,}", f"{row['n_after']:,}", f"{row['change']:+,}")
    console.print(table)


def _title(titles: dict[str, str], item: int | str) -> str:
    title = titles.get(str(item))
    return f" ({title})" if title else ""
