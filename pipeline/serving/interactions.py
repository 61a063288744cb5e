"""New interactions in a worker: written by one thread in batches, and read before each answer.

What was acknowledged is on disk. The next answer of any worker knows it, since each asks the log whether it has changed
(6 µs) before it uses an answer from its cache.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from pipeline.errors import InteractionLogError, LockedError
from pipeline.interaction_log import Accepted, Batch, InteractionLog, Logged, Newest, Preference
from pipeline.serving.problems import Code, Problem
from pipeline.serving.served_model import ServedModel

__all__ = ["InteractionReader", "InteractionWriter", "Known"]

_UNREADABLE = (InteractionLogError, LockedError)
_QUEUED, _TOGETHER = 2_000, 512  # batches that wait, and that one transaction commits


class Known(NamedTuple):
    """What is known of a user besides the model.

    Attributes
    ----------
    new : interactions that the model has not read, in order: of this host's log, and what was pulled of others'
    seen_to : the last interactions of the log at that time
    forgotten : whether the user is to be treated as one who was never there
    genres : those that they like, of a user who is not in the model
    readable : False where the log can't be read: the rest is then empty
    """

    new: Sequence[Logged] = ()
    seen_to: Newest = Newest()
    forgotten: bool = False
    genres: tuple[str, ...] = ()
    readable: bool = True


class InteractionReader:
    """Reads the log for one worker. Where the log can't be read, `failed` says why, and lists are the model's alone.

    Attribute `state` is a number that grows whenever the log has changed.
    """

    def __init__(self, log: InteractionLog) -> None:
        self._log = log
        self.state = 0
        self.failed = ""
        self._latest: tuple[int, Newest] | None = None  # state, and the last interactions then

    def look(self) -> int:
        """`state`, after a look at the log; -1 where it can't be read."""
        try:
            if self._log.changed() or self.failed:
                self.state += 1
                self.failed = ""
        except _UNREADABLE as error:
            self.failed = str(error)
            return -1
        return self.state

    def known(self, user: int | str, served: ServedModel) -> Known:
        """What the log has of a user."""
        try:
            seen_to = self._newest()
            if self._log.is_forgotten(user):
                return Known((), seen_to, True)
            if served.scorer.users.row(user) >= 0:
                after = int(served.watermark.get(self._log.log_id, 0))
                return Known(self._with_pulled(self._log.of_user(user, after), user, served, seen_to), seen_to)
            own = self._log.of_user(user)
            return Known(self._with_pulled(own, user, None, seen_to), seen_to, genres=self._genres(user))
        except _UNREADABLE as error:
            self.failed = str(error)
            return Known(readable=False)

    def _newest(self) -> Newest:
        if self._latest is None or self._latest[0] != self.state:
            self._latest = self.state, self._log.newest()
        return self._latest[1]

    def _with_pulled(
        self, own: Sequence[Logged], user: int | str, served: ServedModel | None, seen_to: Newest
    ) -> Sequence[Logged]:
        """Also what other hosts' logs have of the user above the watermark of `served`; None: all of it."""
        if not seen_to.pulled:
            return own
        pulled = self._log.pulled_of_user(user, {} if served is None else served.watermark)
        # Numbers of two logs say nothing of the order.
        return sorted([*pulled, *own], key=lambda event: event.at) if pulled else own

    def _genres(self, user: int | str) -> tuple[str, ...]:
        preference = self._log.preference(user)
        return () if preference is None else preference.genres

    def preference(self, user: int | str) -> tuple[int | str, Preference | None]:
        """The user's id as the log has it, and the genres that they like, if they said so. Raises the log's errors."""
        return self._log.user_id(user), self._log.preference(user)

    def is_unchanged(
        self, user: int | str, seen_to: Newest, forgotten: bool, genres: tuple[str, ...] | None = None
    ) -> bool:
        """Whether the log has nothing of the user after those interactions, and they are as forgotten as before.

        genres : those that they liked then; None where these make no difference
        """
        try:
            return (
                self._log.is_forgotten(user) == forgotten
                and not self._log.of_user(user, seen_to.own)
                and (
                    self._newest().pulled == seen_to.pulled or not self._log.pulled_of_user(user, after=seen_to.pulled)
                )
                and (genres is None or self._genres(user) == genres)
            )
        except _UNREADABLE as error:
            self.failed = str(error)
            return False

    def forgotten(self, users: Iterable[int | str]) -> set[int | str] | None:
        """Those of the users who were forgotten; None where the log can't be read."""
        try:
            return {user for user in users if self._log.is_forgotten(user)}
        except _UNREADABLE as error:
            self.failed = str(error)
            return None

    def pending(self) -> tuple[int, float]:
        """Interactions that wait to be shipped, and seconds since the oldest of them came. Raises the log's errors."""
        count, oldest = self._log.pending()
        if oldest is None:
            return count, 0.0
        return count, max(0.0, (datetime.now(UTC) - oldest).total_seconds())


class _Waiting(NamedTuple):
    batch: Batch
    answer: asyncio.Future[Accepted]


class InteractionWriter:
    """Writes batches to the log from one thread; each write takes all that has queued by then."""

    def __init__(self, log: InteractionLog) -> None:
        self._log = log
        self._queue: queue.Queue[_Waiting | None] = queue.Queue(_QUEUED)
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="interactions", daemon=True)
        self._thread.start()
        self.failed = ""

    async def append(self, batch: Batch) -> Accepted:
        """Store a batch; it is on disk when this returns. Raises the log's errors, and Problem where too much waits."""
        waiting = _Waiting(batch, self._loop.create_future())
        try:
            self._queue.put_nowait(waiting)
        except queue.Full:
            raise Problem(Code.TOO_BUSY, "Too many interactions wait to be written; send them again") from None
        try:
            return await waiting.answer
        except _UNREADABLE as error:
            raise Problem(Code.LOG_UNAVAILABLE, "Nothing was kept: the log can't be written just now") from error

    async def set_preference(self, user: int | str, genres: Sequence[str]) -> Preference:
        """Keep which genres a user likes; it is on disk when this returns. Raises the log's errors, and Problem."""
        try:
            return await asyncio.to_thread(self._log.set_preference, user, genres)
        except _UNREADABLE as error:
            raise Problem(Code.LOG_UNAVAILABLE, "Nothing was kept: the log can't be written just now") from error

    async def forget(self, user: int | str) -> None:
        """Take nothing of a user any more, and delete what there is: on disk when this returns. Raises Problem."""
        try:
            await asyncio.to_thread(self._log.forget, user)
        except _UNREADABLE as error:
            raise Problem(Code.LOG_UNAVAILABLE, "Nobody was forgotten: the log can't be written just now") from error

    def close(self) -> None:
        """Write what has queued, then end the thread."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            some, last = [first], False
            with contextlib.suppress(queue.Empty):
                while len(some) < _TOGETHER:
                    more = self._queue.get_nowait()
                    if more is None:
                        last = True
                        break
                    some.append(more)
            answers: Sequence[Accepted | Exception]
            try:
                answers = self._log.append_many([waiting.batch for waiting in some])
                self.failed = ""
            except Exception as error:  # noqa: BLE001  # each who waits gets it
                answers = [error] * len(some)
                self.failed = str(error)
            self._loop.call_soon_threadsafe(_answer, some, answers)
            if last:
                return


def _answer(some: Sequence[_Waiting], answers: Sequence[Accepted | Exception]) -> None:
    for waiting, answer in zip(some, answers, strict=True):
        if waiting.answer.done():  # the client has gone
            continue
        if isinstance(answer, Exception):
            waiting.answer.set_exception(answer)
        else:
            waiting.answer.set_result(answer)
