"""Spark's daemon of Python workers with the package imported before it forks: a worker is there at once.

Spark starts a worker anew after every task that fails, and importing the package takes longer than a test's task.
"""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pyspark.worker
from pyspark.daemon import manager

import pipeline.spark.executors
import pipeline.spark.scoring_task

_PRELOADED = (pa, pd, pyspark.worker, pipeline.spark.executors, pipeline.spark.scoring_task)

if __name__ == "__main__":
    manager()
