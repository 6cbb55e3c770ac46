"""Stitch spaces, costs, samplers and records in pure Python."""

from mmsnnet.stitching.budgets import BudgetController, BudgetTable, select
from mmsnnet.stitching.cost import Cost, CostTable
from mmsnnet.stitching.pareto import hypervolume, pareto_front
from mmsnnet.stitching.plan import SHARED, Exit, Layer, Plan, Run, Switch, Tap, all_layers, make_plan
from mmsnnet.stitching.records import Record, direction, front_records, main_metric, read_records, write_records
from mmsnnet.stitching.samplers import (
    CostIntervalSampler,
    LossSampler,
    ResourceConstrainedSampler,
    SandwichSampler,
    UniformSampler,
)
from mmsnnet.stitching.selection import route_of, select_routes
from mmsnnet.stitching.space import Route, Span, StitchSpace

__all__ = [
    'SHARED',
    'BudgetController',
    'BudgetTable',
    'Cost',
    'CostIntervalSampler',
    'CostTable',
    'Exit',
    'Layer',
    'LossSampler',
    'Plan',
    'Record',
    'ResourceConstrainedSampler',
    'Route',
    'Run',
    'SandwichSampler',
    'Span',
    'StitchSpace',
    'Switch',
    'Tap',
    'UniformSampler',
    'all_layers',
    'direction',
    'front_records',
    'hypervolume',
    'main_metric',
    'make_plan',
    'pareto_front',
    'read_records',
    'route_of',
    'select',
    'select_routes',
    'write_records',
]
