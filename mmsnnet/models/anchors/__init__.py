"""Anchors: adapters that run timm's models block by block. The blocks, embeddings and weights are timm's own."""

from mmsnnet.models.anchors.creation import check_compatible, check_local_files, create_anchor, explain, wrap_vit
from mmsnnet.models.anchors.plain import Anchor, Grid

__all__ = ['Anchor', 'Grid', 'check_compatible', 'check_local_files', 'create_anchor', 'explain', 'wrap_vit']
