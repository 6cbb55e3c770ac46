"""Backbones over timm's plain ViTs."""

from mmsnnet.models.anchor_vit import AnchorViT
from mmsnnet.models.anchors import Anchor, create_anchor
from mmsnnet.models.backbone import AnchorBackbone
from mmsnnet.models.classifiers import TimmClassifier
from mmsnnet.models.exits import ExitMaps, PerExit
from mmsnnet.models.flop_counter import model_cost, route_costs
from mmsnnet.models.least_squares import solve_stitching_layers
from mmsnnet.models.route_vit import RouteViT, route_state_dict
from mmsnnet.models.simple_fpn import SimpleFPN
from mmsnnet.models.stitched_vit import StitchedViT, find_backbone, locate_backbone
from mmsnnet.models.stitching_layer import StitchingLayer
from mmsnnet.models.tuning import folded_updates
from mmsnnet.models.weights import find_mismatch

__all__ = [
    'Anchor',
    'AnchorBackbone',
    'AnchorViT',
    'ExitMaps',
    'PerExit',
    'RouteViT',
    'SimpleFPN',
    'StitchedViT',
    'StitchingLayer',
    'TimmClassifier',
    'create_anchor',
    'find_backbone',
    'find_mismatch',
    'folded_updates',
    'locate_backbone',
    'model_cost',
    'route_costs',
    'route_state_dict',
    'solve_stitching_layers',
]
