"""Backbones over timm's plain ViTs."""

from mmsnnet.models.anchors import Anchor, create_anchor
from mmsnnet.models.costs import find_backbone, measure_cost, measure_costs
from mmsnnet.models.least_squares import solve_stitching_layers
from mmsnnet.models.route_vit import RouteViT, route_state_dict
from mmsnnet.models.simple_fpn import SimpleFPN
from mmsnnet.models.stitched_vit import AnchorViT, PlainViTBackbone, StitchedViT
from mmsnnet.models.stitching_layer import StitchingLayer
from mmsnnet.models.weights import find_mismatch

__all__ = [
    'Anchor',
    'AnchorViT',
    'PlainViTBackbone',
    'RouteViT',
    'SimpleFPN',
    'StitchedViT',
    'StitchingLayer',
    'create_anchor',
    'find_backbone',
    'find_mismatch',
    'measure_cost',
    'measure_costs',
    'route_state_dict',
    'solve_stitching_layers',
]
