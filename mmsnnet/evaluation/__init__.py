"""Evaluating many routes, and showing the outcome."""

from mmsnnet.evaluation.latency import DTYPES, LatencyBench, LatencySetting, time_by_turns
from mmsnnet.evaluation.latency_records import add_latency
from mmsnnet.evaluation.plots import plot_pareto
from mmsnnet.evaluation.provenance import describe_device, describe_run, versions
from mmsnnet.evaluation.report import format_record, format_table, write_full_report, write_report
from mmsnnet.evaluation.route_evaluator import RouteEvaluator
from mmsnnet.evaluation.route_results import RouteResults
from mmsnnet.evaluation.shared_prefixes import SharedPrefixes
from mmsnnet.evaluation.training_memory import TrainingMemory, TrainingSetting, predict_extremes

__all__ = [
    'DTYPES',
    'LatencyBench',
    'LatencySetting',
    'RouteEvaluator',
    'RouteResults',
    'SharedPrefixes',
    'TrainingMemory',
    'TrainingSetting',
    'add_latency',
    'describe_device',
    'describe_run',
    'format_record',
    'format_table',
    'plot_pareto',
    'predict_extremes',
    'time_by_turns',
    'versions',
    'write_full_report',
    'write_report',
]
