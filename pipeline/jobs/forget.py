"""`forget`: deletes a user's rows, excludes the user from later lists, and names the runs that still contain them."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace

from pipeline.data.id_map import MAX_ID_LENGTH
from pipeline.errors import InputError, ServerError, UsageError
from pipeline.interaction_log.exposures import ExposureLog
from pipeline.jobs.inputs import open_warehouse
from pipeline.jobs.ship import open_log
from pipeline.publishing import published_tables, suppressed_users
from pipeline.publishing.erasure import NOTES, UserRows, clear_disk, erase, find_user_rows
from pipeline.publishing.lock import publish_locks
from pipeline.publishing.suppressed_users import SuppressedUsers
from pipeline.runtime.progress import Reporter
from pipeline.runtime.redact import address_of_store
from pipeline.settings import Settings
from pipeline.shipping.exposures import exposure_lock
from pipeline.shipping.ship import shipping_lock
from pipeline.tracking import run
from pipeline.tracking.champion import champion
from pipeline.tracking.user_search import FAILURE, UserRecords, find_user_records
from pipeline.warehouse import Warehouse

__all__ = ["ForgetResult", "count_job", "forget_again_job", "forget_job", "lift_job", "purge_commands"]


@dataclass(frozen=True)
class ForgetResult:
    """What a forgetting found and deleted. It does not hold the user's id, since it goes into logs.

    Attributes
    ----------
    address : the warehouse's address
    before : tables that had rows of the user
    left : tables that still have rows of the user, which this command must not delete
    deleted : False for a dry run, which only counts rows
    already : whether the user had been forgotten before
    n_logged : interactions of the user in this host's interaction log, and 1 for preferences
    holders : runs whose artifacts contain the user; None where they were not searched
    champions : the versions of those runs that are champions of their models
    store : MLflow's tracking URI, without user and password
    """

    address: str
    before: tuple[UserRows, ...]
    left: tuple[UserRows, ...]
    deleted: bool
    already: bool = False
    n_logged: int = 0
    holders: UserRecords | None = None
    champions: tuple[str, ...] = ()
    store: str = ""

    def check(self) -> None:
        """Raise InputError where a table of Rankline still shows the user, ServerError where runs can't be read."""
        stuck = [place for place in self.left if place.ours]
        if self.deleted and stuck:
            where = ", ".join(f"{place.table} ({place.engine}, {place.n_rows:,} rows)" for place in stuck)
            raise InputError(
                f"The user is still in {where} in {self.address}: rows came in meanwhile, or are another table's that "
                "it shows; delete them where they come from, and run the command again"
            )
        if self.holders is not None and (unread := self.holders.unread):
            raise ServerError(
                f"{'The rows are deleted, but what' if self.deleted else 'What'} these hold is not known: "
                f"{'; '.join(unread[:3])}{f' and {len(unread) - 3} more' if len(unread) > 3 else ''} in {self.store}. "
                "Run the command again where they can be read"
            )


def count_job(user: str | None, settings: Settings) -> tuple[int, str]:
    """How many rows a forgetting would delete, and the warehouse's address. None: for every forgotten user again."""
    if user is not None:
        _check_id(user)
    n_logged, _ = (0, False) if user is None else _logged(user, settings)
    with open_warehouse(settings) as warehouse:
        suppressed = suppressed_users.read_suppressed_users(warehouse)
        users = suppressed if user is None else SuppressedUsers.just(user, suppressed)
        n_rows = sum(place.n_rows for place in find_user_rows(warehouse, users) if place.deletable)
        return n_rows + n_logged, warehouse.address


def forget_job(user: str, settings: Settings, reporter: Reporter, dry_run: bool = False) -> ForgetResult:
    """Forget a user: delete their rows, add their digest to the list, and find the runs that contain them.

    The interaction log is first: from then on it takes and ships nothing of theirs. The command may be repeated after
    an interrupt. Forgetting a forgotten user again is no error.

    Parameters
    ----------
    user : the id as text, as the tables show it
    dry_run : only count rows and name tables and runs

    Raises
    ------
    UsageError
        The text can't be an id.
    InputError
        The id is unknown and was not forgotten before: a misspelt id must not count as a forgotten user.
    ServerError
        A server fails. Where MLflow fails, the rows in the warehouse are already deleted.
    """
    _check_id(user)
    n_logged, gone_from_log = _logged(user, settings)
    if n_logged and not dry_run:
        # Before the warehouse is asked: it may be away, and nothing of theirs is to be shipped meanwhile.
        _forget_in_log(user, settings, reporter)
    try:
        warehouse = open_warehouse(settings)
    except ServerError as error:
        if n_logged and not dry_run:
            error.args = (f"The interaction log holds nothing of the user any more; run the command again: {error}",)
        raise
    with warehouse:
        suppressed = suppressed_users.read_suppressed_users(warehouse)
        just_user, already = SuppressedUsers.just(user, suppressed), user in suppressed or gone_from_log
        before = find_user_rows(warehouse, just_user)
        result = ForgetResult(warehouse.address, tuple(before), tuple(before), not dry_run, already, n_logged)
        if not before and not already and not n_logged:
            # Artifacts may contain a user who is in no table.
            result = _with_holders(result, user, settings, reporter)
            if result.holders is not None and not (result.holders.runs or result.holders.pending):
                unread = "; ".join(result.holders.unread)
                raise InputError(
                    f"Nobody of that id is known: no table of raw or analytics in {warehouse.address} has such a "
                    f"user_id, and no run in {result.store}; write the id as `rankline sql` shows it"
                    f"{f'. Not read: {unread}' if unread else ''}"
                )
        if dry_run:
            return _with_holders(result, user, settings, reporter)
        _forget_in_log(user, settings, reporter)
        left = _forget(warehouse, user, settings, reporter)
        result = replace(result, left=tuple(left))
    try:
        return _with_holders(result, user, settings, reporter)
    except ServerError as error:
        raise type(error)(
            f"The rows are deleted, but which runs hold the user could not be looked up, run the command again: {error}"
        ) from None


def forget_again_job(settings: Settings, reporter: Reporter, dry_run: bool = False) -> ForgetResult:
    """Delete rows of forgotten users that came back, for example when a table was loaded again."""
    with open_warehouse(settings) as warehouse:
        suppressed = suppressed_users.read_suppressed_users(warehouse)
        if not dry_run and (log := open_log(settings)) is not None:
            with log:
                for user in log.users():
                    if user in suppressed:
                        log.forget(user)
        before = find_user_rows(warehouse, suppressed) if suppressed else []
        left = _delete(warehouse, lambda: suppressed, settings, reporter) if suppressed and not dry_run else before
        return ForgetResult(warehouse.address, tuple(before), tuple(left), not dry_run, True)


def lift_job(user: str, settings: Settings) -> bool:
    """Remove a user who came back from the list; returns whether they were on it."""
    _check_id(user)
    with open_warehouse(settings) as warehouse:  # first: while it lists the user, a service's agent forgets them again
        names = published_tables.published_names(warehouse)
        with publish_locks(warehouse, "forgetting", names, expiry=settings.lock_expiry):
            lifted = suppressed_users.lift(warehouse, user)
    if (log := open_log(settings)) is not None:
        with log:
            lifted = log.lift(user) or lifted
    return lifted


def _check_id(user: str) -> None:
    # Python decodes arguments that are not UTF-8 with lone surrogates.
    if not user or len(user) > MAX_ID_LENGTH or any("\ud800" <= character <= "\udfff" for character in user):
        raise UsageError(f"A user's id is text of 1 to {MAX_ID_LENGTH} characters")


def _logged(user: str, settings: Settings) -> tuple[int, bool]:
    """How many interactions and preferences of the user the log holds, and whether it has forgotten them."""
    log = open_log(settings)
    if log is None:
        return 0, False
    with log:
        n_rows = len(log.of_user(user)) + len(log.pulled_of_user(user))
        return n_rows + (log.preference(user) is not None), log.is_forgotten(user)


def _forget_in_log(user: str, settings: Settings, reporter: Reporter) -> None:
    if settings.exposure_log_path.exists():
        with ExposureLog.open(settings.exposure_log_path, create=False) as exposures:
            exposures.forget(user)
    log = open_log(settings)
    if log is None:
        return
    with log:
        if not log.forget(user).erased:
            reporter.say(f"what was deleted of {log.path} is still on disk, as it is being read: run the command again")


def _forget(warehouse: Warehouse, user: str, settings: Settings, reporter: Reporter) -> list[UserRows]:
    def listed() -> SuppressedUsers:
        # Add the user to the list first: scoring that starts now excludes them. After a kill, run the command again.
        return suppressed_users.add(warehouse, user)

    return _delete(warehouse, listed, settings, reporter)


def _delete(
    warehouse: Warehouse, users: Callable[[], SuppressedUsers], settings: Settings, reporter: Reporter
) -> list[UserRows]:
    """Delete the rows under the locks of all published tables; returns the tables that still have rows."""
    path, shown = settings.interaction_log_path, settings.exposure_log_path
    with (
        # Rows that were read from the log before the user was forgotten are in the warehouse by then.
        shipping_lock(path, reporter.say) if path.exists() else nullcontext(),
        exposure_lock(shown, reporter.say) if shown.exists() else nullcontext(),
        publish_locks(
            warehouse, "forgetting", published_tables.published_names(warehouse), reporter.say, settings.lock_expiry
        ) as lock,
    ):
        suppressed = users()
        places = find_user_rows(warehouse, suppressed)
        reporter.progress("forget", 0, len(places))
        erase(warehouse, lock, places, suppressed, lambda done, total: reporter.progress("forget", done, total))
        if on_disk := clear_disk(warehouse):
            reporter.say(f"what was deleted of {', '.join(on_disk)} is still on disk: run the command again")
        left = find_user_rows(warehouse, suppressed)
        if n_rows := sum(place.n_rows for place in places if place.deletable and place.table != NOTES):
            published_tables.create_log(warehouse)
            tables = ", ".join(place.table for place in places if place.deletable)
            published_tables.log_event(
                warehouse, "forgot", n_rows=n_rows, note=f"{len(suppressed)} user(s), from {tables}"
            )
    return left


def _with_holders(result: ForgetResult, user: str, settings: Settings, reporter: Reporter) -> ForgetResult:
    if result.holders is not None:
        return result
    run.open_or_make_store(settings.tracking_uri, reporter.say)
    records = find_user_records(
        user, settings.unlogged_path, lambda done, total: reporter.progress("runs", done, total)
    )
    versions = [version for record in records.runs for version in record.versions]
    champions = [champion(model) for model in sorted({version.rpartition("/")[0] for version in versions})]
    return replace(
        result,
        holders=records,
        champions=tuple(
            version_now.label for version_now in champions if version_now is not None and version_now.label in versions
        ),
        store=address_of_store(settings.tracking_uri),
    )


def purge_commands(result: ForgetResult) -> list[str]:
    """Commands that remove the user from MLflow for good: they delete runs, versions and logged models."""
    if result.holders is None:
        return []
    held = [record for record in result.holders.runs if record.files != (FAILURE,)]
    runs = [record for record in held if not record.purged]
    models = [model for record in held for model in record.models]
    versions = [version.rpartition("/") for record in held for version in record.versions]
    calls = [f"c.delete_model_version({model!r}, '{number}')" for model, _, number in versions]
    calls += [f"c.delete_logged_model('{model}')" for model in models]
    calls += [f"c.delete_run('{record.run_id}')" for record in runs if not record.deleted]
    calls += [
        f"c.delete_tag('{record.run_id}', '{FAILURE}')" for record in result.holders.runs if record.files == (FAILURE,)
    ]
    lines = [f'python -c "import mlflow; c = mlflow.MlflowClient(); {"; ".join(calls)}"'] if calls else []
    if held:
        # Deleting is reversible and leaves the files; gc removes them.
        options = [f"--run-ids {','.join(record.run_id for record in runs)}"] if runs else []
        options += [f"--logged-model-ids {','.join(models)}"] if models else []
        # Only the server's operator knows the address of its store.
        store = "<the server's>" if result.store.startswith(("http://", "https://")) else result.store
        lines.append(f"mlflow gc {' '.join(options)} --backend-store-uri {store}")
    if result.holders.pending:
        lines.append("rm -r " + " ".join(shlex.quote(str(folder)) for folder in result.holders.pending))
    return lines
