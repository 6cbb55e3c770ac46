"""Evaluating many routes, and showing the outcome."""

from mmsnnet.evaluation.report import format_record, format_table, front_ids, main_metric, plot_pareto, write_report
from mmsnnet.evaluation.route_evaluator import RouteEvaluator

__all__ = [
    'RouteEvaluator',
    'format_record',
    'format_table',
    'front_ids',
    'main_metric',
    'plot_pareto',
    'write_report',
]
