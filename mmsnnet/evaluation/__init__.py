"""Evaluating many routes, and showing the outcome."""

from mmsnnet.evaluation.provenance import describe_device, describe_run, versions
from mmsnnet.evaluation.report import format_record, format_table, plot_pareto, write_report
from mmsnnet.evaluation.route_evaluator import RouteEvaluator
from mmsnnet.evaluation.route_results import RouteResults
from mmsnnet.evaluation.shared_prefixes import SharedPrefixes

__all__ = [
    'RouteEvaluator',
    'RouteResults',
    'SharedPrefixes',
    'describe_device',
    'describe_run',
    'format_record',
    'format_table',
    'plot_pareto',
    'versions',
    'write_report',
]
