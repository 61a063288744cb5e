"""The sections of ``rankline.yaml``, made from the classes of options, and its JSON Schema."""

from __future__ import annotations

from dataclasses import Field, dataclass, fields
from typing import Any

from pipeline.options.base import Options, OptionType, section_of, types_of
from pipeline.options.engine import EngineOptions
from pipeline.options.experiment import ExperimentOptions
from pipeline.options.limits import DataLimits, PromotionLimits
from pipeline.options.monitoring import DriftLimits, DriftOptions
from pipeline.options.names import Names
from pipeline.options.nightly import NightlyOptions, RetainOptions
from pipeline.options.publish import ScoreOptions
from pipeline.options.read import ReadOptions
from pipeline.options.serve import ServeOptions
from pipeline.options.train import TrainOptions
from pipeline.options.tune import TuneOptions

__all__ = ["CLASSES", "FileOption", "json_schema", "sections"]

CLASSES: tuple[type[Options], ...] = (
    ReadOptions, TrainOptions, TuneOptions, DataLimits, PromotionLimits, ScoreOptions, NightlyOptions, RetainOptions,
    ServeOptions, EngineOptions, DriftOptions, DriftLimits, ExperimentOptions, Names,
)  # fmt: skip


@dataclass(frozen=True)
class FileOption:
    """A key of a section: its field, and the class that has the field."""

    of: type[Options]
    field: Field[Any]

    @property
    def kind(self) -> OptionType:
        """The values that it accepts."""
        return types_of(self.of)[self.field.name]


def sections() -> dict[str, dict[str, FileOption]]:
    """Section → key → option, in the order of the classes."""
    by_section: dict[str, dict[str, FileOption]] = {}
    for options in CLASSES:
        for entry in fields(options):
            by_section.setdefault(section_of(options, entry), {})[entry.name] = FileOption(options, entry)
    return by_section


def json_schema() -> dict[str, Any]:
    """The JSON Schema of ``rankline.yaml``, for editors and reviews."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "rankline.yaml",
        "description": "Options of rankline, below the command line and the environment.",
        "type": ["object", "null"],
        "additionalProperties": False,
        "properties": {
            section: {
                "type": ["object", "null"],
                "additionalProperties": False,
                "properties": {name: _property(option) for name, option in keys.items()},
            }
            for section, keys in sections().items()
        },
    }


def _property(option: FileOption) -> dict[str, Any]:
    return {
        "description": option.field.metadata["help"],
        "default": option.field.default,
        **option.kind.as_json_schema(),
    }
