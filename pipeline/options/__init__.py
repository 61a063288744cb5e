"""All options of the commands. The command line, MLproject, ``rankline.yaml`` and the jobs use this one list.

Each field of these classes is an option, with its type, bounds, default and help. `pipeline.options.base` says how.
"""

from pipeline.options.base import Options, YesNo
from pipeline.options.columns import FileFormat, OnBadRows, OnNegative, RowOptions, as_event_weights
from pipeline.options.engine import EngineOptions
from pipeline.options.evaluate import EvaluateOptions, as_ks
from pipeline.options.experiment import ExperimentOptions
from pipeline.options.limits import DataLimits, PromotionLimits
from pipeline.options.monitoring import DriftLimits, DriftOptions, NotifyOptions
from pipeline.options.names import Names
from pipeline.options.nightly import NightlyOptions, RetainOptions
from pipeline.options.publish import ScoreOptions, UnknownUsers
from pipeline.options.read import ReadOptions, Source
from pipeline.options.serve import ServeOptions
from pipeline.options.train import Duplicates, Init, OnInterrupt, Solver, SplitWay, TrainOptions, Transform
from pipeline.options.tune import TuneMetric, TuneOptions

__all__ = [
    "DataLimits",
    "DriftLimits",
    "DriftOptions",
    "Duplicates",
    "EngineOptions",
    "EvaluateOptions",
    "ExperimentOptions",
    "FileFormat",
    "Init",
    "Names",
    "NightlyOptions",
    "NotifyOptions",
    "OnBadRows",
    "OnInterrupt",
    "OnNegative",
    "Options",
    "PromotionLimits",
    "ReadOptions",
    "RetainOptions",
    "RowOptions",
    "ScoreOptions",
    "ServeOptions",
    "Solver",
    "Source",
    "SplitWay",
    "TrainOptions",
    "Transform",
    "TuneMetric",
    "TuneOptions",
    "UnknownUsers",
    "YesNo",
    "as_event_weights",
    "as_ks",
]
