"""The models of an evaluation: kinds of models with options, and registered versions with theirs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from pipeline.errors import RanklineError, UsageError
from pipeline.models import registry
from pipeline.models.base import Algorithm
from pipeline.models.named_options import named_values, with_values
from pipeline.options import TrainOptions
from pipeline.options.base import as_text
from pipeline.runtime.progress import Reporter

__all__ = ["ModelSetting", "settings_of"]

# rankline/3, rankline@champion, models:/rankline/3, runs:/…
_VERSION = re.compile(r"(runs|models):/.*|[a-z][a-z0-9_]*(/\d+|@[^/@]+)")


@dataclass(frozen=True)
class ModelSetting:
    """A model with its options. `label` names it in the results: ``nmf``, ``nmf:n_components=50``, ``rankline/3``."""

    label: str
    algorithm: Algorithm
    options: TrainOptions

    def seeded(self, seed: int) -> ModelSetting:
        """The same with another seed."""
        return replace(self, options=replace(self.options, random_state=seed))


def settings_of(texts: Iterable[str], base: TrainOptions, reporter: Reporter) -> tuple[ModelSetting, ...]:
    """The models that ``--model`` names, each once, in order.

    ``["nmf,popular", "ease:regularization=500", "rankline/3"]``: a kind of model takes those of the base's options that
    it has, and the options after its name on top of them. A registered version stands for its kind and all of its
    options; it is fitted anew like any other, since what it was trained on may hold the test side.

    Raises
    ------
    UsageError
        For an unknown name or option, or a wrong value.
    RanklineError
        For a version that the registry does not have.
    """
    words = [word.strip() for text in texts for word in str(text).split(",") if word.strip()]
    if not words:
        raise UsageError(f"--model is one or more of {', '.join(registry.names())}, got nothing")
    settings = (
        _of_version(word, base, reporter) if _VERSION.fullmatch(word) else _of_kind(word, base)
        for word in dict.fromkeys(words)
    )
    return tuple({setting.label: setting for setting in settings}.values())


def _of_kind(word: str, base: TrainOptions) -> ModelSetting:
    """``ease:regularization=500:transform=binary``."""
    name, *given = [part.strip() for part in word.split(":")]
    algorithm = registry.find(name, "--model")
    options = algorithm.own_options(base)
    values = named_values(algorithm, given, f"--model {word}")
    label = ":".join([algorithm.name, *(f"{option}={as_text(value)}" for option, value in values.items())])
    return ModelSetting(label, algorithm, with_values(options, values, f"--model {word}"))


def _of_version(word: str, base: TrainOptions, reporter: Reporter) -> ModelSetting:
    """The kind and the options of a registered version, or of a run."""
    # Only this needs MLflow.
    from pipeline.jobs.load_model import loaded

    with loaded(word, reporter, "rankline") as (scorer, version):
        meta = scorer.model.meta
    name = str(meta.get("model") or meta.get("algorithm") or registry.DEFAULT.name)
    algorithm = registry.find(name, f"the kind of {word}")
    kept = meta.get("parameters")
    values = {option: kept[option] for option in algorithm.options if isinstance(kept, Mapping) and option in kept}
    try:
        return ModelSetting(version.label, algorithm, replace(algorithm.own_options(base), **values))
    except RanklineError as error:
        raise UsageError(f"--model {word}: this version of Rankline can't use its options: {error}") from None
