"""A scoring as a folder that the driver and the executors share: what is asked for, and the blocks of users.

    job.json              the model, its lists, the version of Rankline
    rules.json            the rules about items
    blocks/000000.npz     users of a block, and what they have seen by now

Executors write the lists beside it, or into the folder of a Parquet target. Each file appears whole.
"""

from __future__ import annotations

import hashlib
import json
import socket
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from pipeline import __version__
from pipeline.errors import ServerError
from pipeline.models.model_files import METADATA
from pipeline.models.signatures import SigningKeys
from pipeline.publishing.lists import Lineage
from pipeline.publishing.user_blocks import UserBlock
from pipeline.ranking.rules import Rules
from pipeline.ranking.scorer import Scorer
from pipeline.runtime.files import advice_for, reason_of
from pipeline.spark.failures import check_package

__all__ = ["ScoringJob", "metadata_digest"]

_JOB, _RULES, _BLOCKS = "job.json", "rules.json", "blocks"


@dataclass(frozen=True)
class ScoringJob:
    """Attributes
    ----------
    folder : of this job's files
    model : folder of the saved model
    metadata : sha256 of the model's metadata.json, as the driver has verified it
    lists : folder for the lists
    k : items a user
    at_ms : the time that counts for the rules, milliseconds since 1970
    max_per_genre, max_per_series : None for any number
    lineage : of the rows
    version : of Rankline
    """

    folder: Path
    model: Path
    metadata: str
    lists: Path
    k: int
    at_ms: int
    lineage: Lineage
    max_per_genre: int | None = None
    max_per_series: int | None = None
    version: str = __version__

    def write(self, rules: Rules) -> None:
        """Write what is asked for; the blocks come after. Raises ServerError."""
        facts = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(self).items()}
        try:
            (self.folder / _BLOCKS).mkdir(exist_ok=True)
            rules.write(self.folder / _RULES)
            (self.folder / _JOB).write_text(json.dumps(facts), encoding="utf-8")
        except OSError as error:
            raise _unwritable(self.folder, error) from None

    @classmethod
    def read(cls, folder: Path) -> ScoringJob:
        """On an executor. Raises ServerError where it can't see the folder, or has another version of Rankline."""
        try:
            facts = json.loads((folder / _JOB).read_text(encoding="utf-8"))
        except OSError as error:
            raise ServerError(
                f"The executor on {socket.gethostname()} can't read {folder} ({error.strerror}): "
                "--spark-folder names a folder that the driver and every executor see, under the same name"
            ) from None
        check_package(str(facts["version"]))
        paths = {name: Path(facts[name]) for name in ("folder", "model", "lists")}
        return cls(**{**facts, **paths, "lineage": Lineage(**facts["lineage"])})

    def scorer(self) -> Scorer:
        """The scorer under the rules, its arrays mapped. Raises ArtifactError for files other than the driver has."""
        rules = Rules.read(self.folder / _RULES)
        scorer = Scorer.load(self.model, mapped=True, listed=self.metadata)
        return scorer.under(rules, self.at_ms).limited(self.max_per_genre, self.max_per_series)

    def put(self, number: int, block: UserBlock) -> None:
        """Write a block of users. Raises ServerError."""
        who: dict[str, Any] = {"ids": block.ids} if block.rows is None else {"rows": block.rows.astype(np.int64)}
        seen, path = block.seen, self._block(number)
        partial = path.with_suffix(".partial")
        try:
            with partial.open("wb") as file:
                np.savez(
                    file, allow_pickle=False, indptr=seen.indptr, indices=seen.indices, n_users=block.n_users, **who
                )
            partial.replace(path)
        except OSError as error:
            raise _unwritable(path, error) from None

    def take(self, number: int, scorer: Scorer) -> UserBlock:
        """The block that `put` wrote. Raises ServerError where it can't be read."""
        path = self._block(number)
        try:
            with np.load(path, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
        except (OSError, ValueError) as error:
            raise ServerError(f"{path} can't be read ({' '.join(str(error).split())[:200]})") from None
        rows = arrays.get("rows")
        ids = arrays["ids"] if rows is None else scorer.users.values[rows]
        cells = np.ones(arrays["indices"].size, np.int8), arrays["indices"], arrays["indptr"]
        seen = sparse.csr_matrix(cells, shape=(ids.size, len(scorer.items)))
        return UserBlock(ids, rows, seen, int(arrays["n_users"]))

    def _block(self, number: int) -> Path:
        return self.folder / _BLOCKS / f"{number:06d}.npz"


def metadata_digest(model: Path) -> str:
    """sha256 of a model's metadata, by which executors know the files. Raises SignatureError, as reading it does."""
    content = (model / METADATA).read_bytes()
    SigningKeys.of_environment().verify(model, content)
    return hashlib.sha256(content).hexdigest()


def _unwritable(path: Path, error: OSError) -> ServerError:
    return ServerError(f"{path} can't be written ({' '.join(reason_of(error).split())[:200]}); {advice_for(error)}")
