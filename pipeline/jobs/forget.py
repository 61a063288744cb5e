"""`forget`: a user's rows are deleted, later batches leave them out, and who still holds them is named."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace

from pipeline import forgotten, shelf, sql, tracking
from pipeline.champions import champion
from pipeline.erasure import NOTES, Place, clear_disk, erase, look
from pipeline.errors import InputError, ServerError, UsageError
from pipeline.forgotten import Forgotten
from pipeline.holders import FAILURE, Holders, find_holders
from pipeline.ids import MAX_ID_LENGTH
from pipeline.jobs.reporter import Reporter
from pipeline.lease import holding
from pipeline.registry import MODEL_NAME
from pipeline.settings import Settings, address_of_store
from pipeline.sources.choice import open_warehouse
from pipeline.warehouse import Warehouse

__all__ = ["Forgetting", "count_job", "forget_again_job", "forget_job", "lift_job", "purge_commands"]


@dataclass(frozen=True)
class Forgetting:
    """What a forgetting found and did. The user's id is no part of it: it goes into logs.

    Attributes
    ----------
    address : of the warehouse
    before : tables that had rows of the user
    left : those that have still, since their rows are not ours to delete
    deleted : whether rows were to be deleted (a dry run only counts)
    already : whether the user was forgotten before
    holders : runs whose artifacts have the user; None where they were not looked for
    champion : the version that is champion, "" for none
    store : MLflow's tracking URI, without user and password
    """

    address: str
    before: tuple[Place, ...]
    left: tuple[Place, ...]
    deleted: bool
    already: bool = False
    holders: Holders | None = None
    champion: str = ""
    store: str = ""

    def check(self) -> None:
        """Raises InputError where a table of Rankline's still shows the user."""
        stuck = [place for place in self.left if place.ours]
        if self.deleted and stuck:
            where = ", ".join(f"{place.table} ({place.engine}, {place.n_rows:,} rows)" for place in stuck)
            raise InputError(
                f"The user is still in {where} in {self.address}: rows came in meanwhile, or are another table's that "
                "it shows; delete them where they come from, and run the command again"
            )


def count_job(user: str | None, settings: Settings) -> tuple[int, str]:
    """How many rows a forgetting (None: of everybody on the list, again) would delete, and in which warehouse."""
    if user is not None:
        _check_id(user)
    with open_warehouse(settings) as warehouse:
        there = forgotten.read_forgotten(warehouse)
        those = there if user is None else Forgotten.just(user, there)
        return sum(place.n_rows for place in look(warehouse, those) if place.deletable), warehouse.address


def forget_job(user: str, settings: Settings, reporter: Reporter, dry_run: bool = False) -> Forgetting:
    """Forget a user: delete their rows, put their digest on the list, and find the runs that hold them.

    Stopped anywhere and run again, it finishes; a second time there is nothing left, which is no fault.

    Parameters
    ----------
    user : the id as text, as the tables show it
    dry_run : count and name, change nothing

    Raises
    ------
    UsageError
        Where the id can be none.
    InputError
        Where nobody of that id is known, or was forgotten: a misspelt id must not pass for a forgotten user.
    ServerError
        Where a server fails. The warehouse comes first: where MLflow fails, that part is done.
    """
    _check_id(user)
    with open_warehouse(settings) as warehouse:
        there = forgotten.read_forgotten(warehouse)
        one, already = Forgotten.just(user, there), user in there
        before = look(warehouse, one)
        result = Forgetting(warehouse.address, tuple(before), tuple(before), not dry_run, already)
        if not before and not already:
            # Artifacts may have a user whom the tables do not.
            result = _with_holders(result, user, settings, reporter)
            if result.holders is not None and not (result.holders.found or result.holders.kept):
                raise InputError(
                    f"Nobody of that id is known: no table of raw or analytics in {warehouse.address} has such a "
                    f"user_id, and no run in {result.store}; write the id as `rankline sql` shows it"
                )
        if dry_run:
            return _with_holders(result, user, settings, reporter)
        left = _forget(warehouse, user, one, reporter)
        result = replace(result, left=tuple(left))
    try:
        return _with_holders(result, user, settings, reporter)
    except ServerError as error:
        raise type(error)(
            f"The rows are deleted, but which runs hold the user could not be looked up, run the command again: {error}"
        ) from None


def forget_again_job(settings: Settings, reporter: Reporter, dry_run: bool = False) -> Forgetting:
    """Delete what has come back of everybody on the list, as a table that is loaded anew brings them."""
    with open_warehouse(settings) as warehouse:
        everybody = forgotten.read_forgotten(warehouse)
        before = look(warehouse, everybody) if everybody else []
        left = _delete(warehouse, lambda: everybody, reporter) if everybody and not dry_run else before
        return Forgetting(warehouse.address, tuple(before), tuple(left), not dry_run, True)


def lift_job(user: str, settings: Settings) -> bool:
    """Take the user off the list, since they came back of their own will; whether they were on it."""
    _check_id(user)
    with open_warehouse(settings) as warehouse, holding(warehouse, "forgetting"):
        return forgotten.lift(warehouse, user)


def _check_id(user: str) -> None:
    # Typed bytes that are no UTF-8 arrive as lone surrogates.
    if not user or len(user) > MAX_ID_LENGTH or any("\ud800" <= one <= "\udfff" for one in user):
        raise UsageError(f"A user's id is text of 1 to {MAX_ID_LENGTH} characters")


def _forget(warehouse: Warehouse, user: str, one: Forgotten, reporter: Reporter) -> list[Place]:
    def listed() -> Forgotten:
        # On the list first: a batch that begins now leaves the user out, and a kill here is made good by another try.
        return forgotten.add(warehouse, user)

    return _delete(warehouse, listed, reporter)


def _delete(warehouse: Warehouse, users: Callable[[], Forgotten], reporter: Reporter) -> list[Place]:
    """Delete under the lock of the published tables, so that no set moves meanwhile; returns what is left."""
    with holding(warehouse, "forgetting", reporter.say) as lease:
        those = users()
        places = look(warehouse, those)
        reporter.progress("forget", 0, len(places))
        erase(warehouse, lease, places, those, lambda done, total: reporter.progress("forget", done, total))
        if on_disk := clear_disk(warehouse):
            reporter.say(f"what was deleted of {', '.join(on_disk)} is still on disk: run the command again")
        left = look(warehouse, those)
        if n_rows := sum(place.n_rows for place in places if place.deletable and place.table != NOTES):
            for name in ("ddl/02_analytics", "ddl/publications"):
                warehouse.ddl(sql.load(name).text)
            tables = ", ".join(place.table for place in places if place.deletable)
            shelf.log_event(warehouse, "forgot", "", "", "", 0, n_rows, f"{len(those)} user(s), from {tables}")
    return left


def _with_holders(result: Forgetting, user: str, settings: Settings, reporter: Reporter) -> Forgetting:
    if result.holders is not None:
        return result
    tracking.open_store(settings.tracking_uri)
    found = find_holders(
        user, settings.tuning_path.with_name("unlogged"), lambda done, total: reporter.progress("runs", done, total)
    )
    reigning = champion()
    return replace(
        result,
        holders=found,
        champion=reigning.version if reigning is not None else "",
        store=address_of_store(settings.tracking_uri),
    )


def purge_commands(result: Forgetting) -> list[str]:
    """What takes the user out of the tracking store for good: runs, their versions and logged models."""
    if result.holders is None:
        return []
    held = [one for one in result.holders.found if one.files != (FAILURE,)]
    runs = [one for one in held if not one.purged]
    models = [model for one in held for model in one.models]
    calls = [f"c.delete_model_version('{MODEL_NAME}', '{version}')" for one in held for version in one.versions]
    calls += [f"c.delete_logged_model('{model}')" for model in models]
    calls += [f"c.delete_run('{one.run_id}')" for one in runs if not one.deleted]
    calls += [f"c.delete_tag('{one.run_id}', '{FAILURE}')" for one in result.holders.found if one.files == (FAILURE,)]
    lines = [f'python -c "import mlflow; c = mlflow.MlflowClient(); {"; ".join(calls)}"'] if calls else []
    if held:
        # Deleting alone leaves the files: for a while in which it could be undone.
        options = [f"--run-ids {','.join(one.run_id for one in runs)}"] if runs else []
        options += [f"--logged-model-ids {','.join(models)}"] if models else []
        # A server's own store is known to who runs it.
        store = "<the server's>" if result.store.startswith(("http://", "https://")) else result.store
        lines.append(f"mlflow gc {' '.join(options)} --backend-store-uri {store}")
    if result.holders.kept:
        lines.append("rm -r " + " ".join(shlex.quote(str(folder)) for folder in result.holders.kept))
    return lines
