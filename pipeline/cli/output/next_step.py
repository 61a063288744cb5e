"""The next step after a command, in one line, or "" if there is none."""

from __future__ import annotations

from pipeline.models import registry
from pipeline.models.base import Algorithm

__all__ = ["after_promotion", "after_training", "after_version"]


def after_training(
    version: str,
    better_than_popular: str | None,
    step_follows: bool,
    name: str = "",
    algorithm: Algorithm = registry.DEFAULT,
) -> str:
    """After `train` and `tune`.

    Parameters
    ----------
    better_than_popular : ``yes``, ``no`` or ``unclear``; None where it was not measured
    step_follows : whether a script goes on with the version by itself
    name : what is added to the commands, if the model is not the default one: " --name shop"
    algorithm : what was trained
    """
    if step_follows:
        return ""
    if better_than_popular == "yes" and algorithm.kind != "popularity":
        return f"rankline promote {version}{name}, then rankline score{name}"
    step = after_version(version, better_than_popular, name=name, algorithm=algorithm)
    return step or f"rankline score --model {version}{name}"


def after_version(
    version: str,
    better_than_popular: str | None,
    is_champion: bool = False,
    name: str = "",
    algorithm: Algorithm = registry.DEFAULT,
) -> str:
    """After a look at a version that is trained, and perhaps published."""
    if is_champion or not version:
        return ""
    if algorithm.kind == "popularity":
        return (
            f"rankline train{name} trains lists for each user (the promotion gate would refuse {version}: one for all)"
        )
    if better_than_popular == "yes":
        return f"rankline promote {version}{name}"
    if better_than_popular in ("no", "unclear"):
        typed = "" if algorithm is registry.DEFAULT else f" --algorithm {algorithm.name}"
        return f"rankline tune{typed}{name} searches for better options (the promotion gate would refuse {version})"
    return ""


def after_promotion(name: str = "") -> str:
    """After `promote`."""
    return f"rankline score{name} publishes its lists · to go back: rankline rollback{name}"
