"""The lists of a published table as exposures of an experiment: who reads the table shows them, unseen by us."""

from __future__ import annotations

from pipeline.experiments.definition import Experiment
from pipeline.options.names import DEFAULT, Names
from pipeline.warehouse import Warehouse, sql

__all__ = ["TABLES", "log_published"]

# What analytics.exposures and the outcomes need.
TABLES = ("ddl/02_analytics", "ddl/08_exposures", "ddl/09_exposure_shipments", "ddl/10_outcomes")


def log_published(warehouse: Warehouse, experiment: Experiment, names: Names = DEFAULT) -> None:
    """Write an exposure for each user of the published table. What is there already stays: it may be run again."""
    for name in TABLES:
        warehouse.ddl(sql.load(name).text)
    parameters = {
        "table": names.sets,
        "experiment": experiment.name,
        "salt": experiment.salt,
        "until": experiment.split[0],
    }
    warehouse.command(sql.load("queries/insert_table_exposures").text, parameters)
