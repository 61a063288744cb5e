"""Models that another saved model is made of: each in a folder of its own, ``members/0``, ``members/1``, …

The metadata of the whole lists the sha256 of each member's metadata, which lists those of the member's files. So the
signature of the whole holds for its members. They have none of their own: nobody can pass a member off as a model that
was signed.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.errors import ArtifactError
from pipeline.models import safe_files
from pipeline.models.model_files import ALL_FILES, METADATA, OWN_FILES, ModelFolder
from pipeline.models.protocols import SavedModel
from pipeline.models.signatures import SIGNATURE

__all__ = ["MEMBERS", "MOST_MEMBERS", "copy_saved_model", "read_member", "save_members"]

(MEMBERS,) = OWN_FILES["ensemble"]
MOST_MEMBERS = 16
# Kinds that are made of members: no member is of such a kind.
_MADE_OF_MEMBERS = ("ensemble", "rerank")


def save_members(members: Sequence[SavedModel], folder: str | Path) -> list[str]:
    """Write each member into its folder in `folder`; returns the sha256 of their metadata."""
    digests = []
    for i, member in enumerate(members):
        own = member.save(Path(folder) / MEMBERS / str(i))
        (own / SIGNATURE).unlink(missing_ok=True)
        with safe_files.opened(own, METADATA) as file:
            digests.append(safe_files.sha256(file))
    return digests


def copy_saved_model(source: Path, target: Path) -> None:
    """Copy the files of a model and of its members, and nothing else, into `target` (made if missing).

    Raises ArtifactError for a file that can't be read, OSError for one that can't be written.
    """
    _copy_files(source, target)
    for i in range(MOST_MEMBERS):
        if (source / MEMBERS / str(i)).is_dir():
            _copy_files(source / MEMBERS / str(i), target / MEMBERS / str(i))


def _copy_files(source: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for name in ALL_FILES:
        if name != MEMBERS and (source / name).exists():
            with safe_files.opened(source, name) as file, (target / name).open("xb") as copy:
                shutil.copyfileobj(file, copy, 1 << 20)


def read_member(source: ModelFolder, i: int, digest: Any, load: Callable[..., SavedModel], mapped: bool) -> SavedModel:
    """Member i, whose metadata has the given sha256, by `load(its folder, mapped=…)`. Raises ArtifactError."""
    with safe_files.opened(source.folder, f"{MEMBERS}/{i}/{METADATA}"):
        pass  # a member's folder may be no link out of the whole's
    own = ModelFolder(source.folder / MEMBERS / str(i), listed=str(digest))
    if own.kind in _MADE_OF_MEMBERS:
        raise ArtifactError(f"{own.folder}: a member can't be of kind {own.kind}")
    member = load(own, mapped=mapped)
    if member.users != source.users or member.items != source.items:
        raise ArtifactError(f"{own.folder} is for other users or items than {source.folder}")
    # The same ids are kept once.
    return replace(member, users=source.users, items=source.items)  # type: ignore[type-var]  # a dataclass
