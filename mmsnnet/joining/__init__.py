"""Finished models as parts of a stitched one: reading and checking them, joining two, adding a route."""

from mmsnnet.joining.finished import FinishedModel, check_pair, differences, load_finished
from mmsnnet.joining.growing import add_to_config, find_new_route, grown_model
from mmsnnet.joining.join import absolute, join_configs, join_models, largest_difference

__all__ = [
    'FinishedModel',
    'absolute',
    'add_to_config',
    'check_pair',
    'differences',
    'find_new_route',
    'grown_model',
    'join_configs',
    'join_models',
    'largest_difference',
    'load_finished',
]
