"""Two versions side by side: their metrics, and where both have them of each user, the interval of the difference."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from pipeline.errors import InputError, RanklineError
from pipeline.serving.live_folder import LiveFolder, write_json

__all__ = ["compare_versions"]

_PAIRED = re.compile(r"(ndcg|recall|precision|hit_rate|map|mrr)_at_10")
_KEPT = 100  # comparisons


def compare_versions(folder: LiveFolder, request: Mapping[str, Any]) -> Mapping[str, Any]:
    """Compare the runs `a` and `b` of a request, and write the file. Raises RanklineError."""
    from pipeline.evaluation.comparison import common_users, require_same_split
    from pipeline.evaluation.significance import compare
    from pipeline.tracking.lookup import RunRef, evaluation_of

    difference: dict[str, Any] = {}
    reason = ""
    try:
        a, b = (evaluation_of(RunRef(str(request[name]["run_id"]), str(request[name]["label"]), "")) for name in "ab")
        if a is None or b is None:
            raise InputError("one of them has no values of each user: it was trained without a holdout")
        require_same_split(a, b)
        rows_a, rows_b = common_users(a, b)
        for name in filter(_PAIRED.fullmatch, a.columns):
            if name in b.columns:
                with suppress(InputError):  # no user has both
                    found = compare(a.metric(name)[rows_a], b.metric(name)[rows_b])
                    value, low, high = found.difference
                    difference[name] = {
                        "a": found.mean_a, "b": found.mean_b, "difference": value, "low": low, "high": high
                    }  # fmt: skip
    except InputError as error:  # another split, other data, no evaluation: the metrics stand side by side all the same
        reason = str(error)
    compared = {"difference": difference, "reason": reason}
    run_a, run_b = (str(request[name]["run_id"]) for name in "ab")
    write_json(folder.comparison(run_a, run_b), compared, durable=False)
    with suppress(OSError, RanklineError):
        kept = sorted(folder.snapshots.glob("comparison-*.json"), key=lambda path: -path.stat().st_mtime)
        for path in kept[_KEPT:]:
            path.unlink(missing_ok=True)
    return {}
