"""What a version that was not shown would have reached: not to be told from lists without propensities."""

from __future__ import annotations

from pipeline.errors import InputError

__all__ = ["check_propensities"]


def check_propensities(n_lists: int, n_with: int) -> None:
    """Raise InputError unless every list has its propensity, the chance with which it was shown.

    An estimate by inverse propensities divides by that chance (D. Horvitz, D. Thompson, "A generalization of sampling
    without replacement from a finite universe", Journal of the American Statistical Association 47 (1952)), and needs
    it to be above 0 for every list that the other version would show.

    Parameters
    ----------
    n_lists, n_with : lists that were logged, and those of them with a propensity
    """
    if n_lists and n_with == n_lists:
        return
    if not n_lists:
        raise InputError("There is no off-policy estimate: no list was logged")
    raise InputError(
        f"There is no off-policy estimate: {n_lists - n_with:,} of {n_lists:,} lists have no propensity. A version's "
        "lists are certain: what it did not show had a chance of 0, and nothing says what would have become of it. "
        "Test the version instead: rankline experiment start"
    )
