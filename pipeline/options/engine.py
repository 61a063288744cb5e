"""Where a training or a batch job computes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pipeline.options.base import Options, Rule, option

__all__ = ["Engine", "EngineOptions"]

Engine = Literal["local", "spark"]


def _is_master(text: str) -> bool:
    return bool(text) and text.isprintable() and " " not in text


@dataclass(frozen=True)
class EngineOptions(Options):
    """Where it computes. Raises UsageError for invalid values."""

    PANEL: ClassVar[str] = "Other options"
    SECTION: ClassVar[str] = "engine"

    engine: Engine = option(
        "local",
        "local: this process; spark: a cluster.",
        details="spark needs the extra `spark` and Java 17: docs/spark.md.",
    )
    spark_master: Annotated[str, Rule(_is_master, "an address such as spark://host:7077")] | None = option(
        None,
        "The cluster: spark://host:7077, yarn, local[4]. Default: that of spark-submit, else this machine.",
        advanced=True,
    )
    spark_folder: Path | None = option(
        None,
        "Folder that this machine and all executors share under one path. Default: spark, beside MLflow's store.",
        advanced=True,
    )

    @property
    def on_spark(self) -> bool:
        """Whether executors of Spark compute."""
        return self.engine == "spark"
