"""Evaluating many routes, and showing the outcome."""

from mmsnnet.evaluation.precision import DTYPES, choose_dtype, mixed_precision
from mmsnnet.evaluation.profiling.latency import LatencyBench, LatencySetting, time_by_turns
from mmsnnet.evaluation.profiling.latency_records import LatencyJob, with_latency
from mmsnnet.evaluation.profiling.training_memory import TrainingMemory, TrainingSetting, predict_extremes
from mmsnnet.evaluation.provenance import describe_device, describe_run, tested_settings, versions
from mmsnnet.evaluation.reports.pictures import Pictures, draw_pictures
from mmsnnet.evaluation.reports.plots import plot_pareto
from mmsnnet.evaluation.reports.report import format_record, format_table, write_full_report, write_report
from mmsnnet.evaluation.routes.route_evaluator import RouteEvaluator
from mmsnnet.evaluation.routes.route_results import RouteResults
from mmsnnet.evaluation.routes.shared_prefixes import SharedPrefixes

__all__ = [
    'DTYPES',
    'LatencyBench',
    'LatencyJob',
    'LatencySetting',
    'Pictures',
    'RouteEvaluator',
    'RouteResults',
    'SharedPrefixes',
    'TrainingMemory',
    'TrainingSetting',
    'choose_dtype',
    'describe_device',
    'describe_run',
    'draw_pictures',
    'format_record',
    'format_table',
    'mixed_precision',
    'plot_pareto',
    'predict_extremes',
    'tested_settings',
    'time_by_turns',
    'versions',
    'with_latency',
    'write_full_report',
    'write_report',
]
