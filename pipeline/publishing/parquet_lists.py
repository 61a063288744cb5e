"""Lists as a folder of Parquet files, one a block; the folder appears whole, once the batch is published, or never."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import InputError, LockedError, ServerError, UsageError
from pipeline.publishing.batch_scoring import BatchSummary, ScoredBlock
from pipeline.publishing.lists import Lineage, Recommendations, as_rows, from_rows
from pipeline.runtime.file_lock import FileLock
from pipeline.runtime.files import advice_for, reason_of

__all__ = ["ParquetTarget", "block_path", "read_block", "write_block"]

_COUNTS = b"rankline"  # the key of a block's counts in its file's metadata


def block_path(folder: Path, number: int) -> Path:
    """Where the lists of a block lie."""
    return folder / f"part-{number:06d}.parquet"


def write_block(folder: Path, number: int, scored: ScoredBlock, lineage: Lineage) -> None:
    """Write the lists of a block and its counts; the file appears whole, and a second one takes its place.

    Raises ServerError where it can't be written.
    """
    rows = as_rows(scored.lists, lineage)
    counts = {_COUNTS: json.dumps(scored.summary.__dict__).encode()}
    path = block_path(folder, number)
    partial = folder / f".{path.name}.{uuid.uuid4().hex}"
    try:
        pq.write_table(rows.replace_schema_metadata(counts), partial)
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise ServerError(f"{path} can't be written ({_reason(error)}); {advice_for(error)}") from None


def read_block(folder: Path, number: int) -> ScoredBlock:
    """The lists and counts that `write_block` wrote. Raises ServerError where the file is none of these."""
    path = block_path(folder, number)
    try:
        rows = pq.read_table(path, partitioning=None)
        summary = BatchSummary(**json.loads(rows.schema.metadata[_COUNTS]))
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise ServerError(
            f"{path} can't be read ({' '.join(str(error).split())[:200]}); run the command again"
        ) from None
    if rows.num_rows != summary.n_rows:
        raise ServerError(f"{path} has {rows.num_rows} rows, not {summary.n_rows}: run the command again")
    return ScoredBlock(from_rows(rows), summary)


class ParquetTarget:
    """A folder that is filled under another name beside it. Use as a context manager; `appear` gives it its name.

    Raises
    ------
    UsageError
        The target exists.
    InputError
        It can't be made there.
    LockedError
        Another job makes it.
    """

    def __init__(self, target: Path) -> None:
        self.target = target = Path(os.path.abspath(target))  # noqa: PTH100 (resolve would follow a link of that name)
        self.folder = target.parent / f".{target.name}.partial"
        self._lock_path = target.parent / f".{target.name}.lock"
        self._check_absent()
        try:
            self._lock = FileLock(self._lock_path)
        except LockedError:
            raise LockedError(f"Another job makes {target}: wait for it to end, or name another folder") from None
        except OSError as error:
            raise InputError(f"{target} can't be made ({_reason(error)}); {advice_for(error)}") from None
        try:
            shutil.rmtree(self.folder, ignore_errors=True)  # of a job that was killed
            self.folder.mkdir()
        except OSError as error:
            self._release()
            raise InputError(f"{target} can't be made ({_reason(error)}); {advice_for(error)}") from None

    def _check_absent(self) -> None:
        if os.path.lexists(self.target):
            raise UsageError(f"{self.target} exists already, and is not written over: name a new folder, or remove it")

    def sink(self, lineage: Lineage) -> ParquetSink:
        """Writes each block as it comes."""
        return ParquetSink(self.folder, lineage)

    def appear(self) -> None:
        """Give the folder its name. Raises UsageError where another thing has taken it since."""
        self._check_absent()
        try:
            self.folder.rename(self.target)
        except OSError as error:
            raise InputError(
                f"The table is published, and {self.target} can't be made ({_reason(error)}); {advice_for(error)}"
            ) from None

    def __enter__(self) -> ParquetTarget:
        return self

    def __exit__(self, _kind: type | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self._release()

    def _release(self) -> None:
        # While it is held: who opened it before, and waits for nothing, is refused.
        with suppress(OSError):
            self._lock_path.unlink(missing_ok=True)
        self._lock.release()


class ParquetSink:
    """A sink that writes a file a block."""

    def __init__(self, folder: Path, lineage: Lineage) -> None:
        self._folder, self._lineage, self._n = folder, lineage, 0

    def write(self, block: Recommendations) -> None:
        """Write the block. Raises ServerError."""
        summary = BatchSummary(0, 0, 0, 0, 0, block.ranks.size)
        write_block(self._folder, self._n, ScoredBlock(block, summary), self._lineage)
        self._n += 1


def _reason(error: OSError) -> str:
    return " ".join(reason_of(error).split())[:300]
