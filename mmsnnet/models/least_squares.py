"""The least-squares start of stitching layers, by streaming normal equations (SN-Net, section 3.3)."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from mmengine.dist import all_reduce, broadcast
from torch import Tensor

from mmsnnet.errors import UserError
from mmsnnet.models.anchors import Anchor
from mmsnnet.models.stitched_vit import StitchedViT
from mmsnnet.stitching.plan import layer_places


@torch.no_grad()
def solve_stitching_layers(
    backbone: StitchedViT, batches: Iterable[Tensor | tuple[Tensor, Tensor]]
) -> dict[str, float]:
    """Set every stitching layer to the affine map that best turns the features it leaves into those it enters.

    Features are those of the anchors alone, in evaluation mode: all tokens of all images but those of padding. Sums are
    kept in float64 on the model's device, so memory does not grow with the number of images, and are added over ranks:
    each rank may bring its own share of the images, and all end with the same weights.

    Args:
        batches: images (B, 3, H, W), preprocessed. A rank may bring none. Images with padding come in a pair with a
            mask (B, H, W) that is False on it. A patch counts where any pixel of it is image; prefix tokens always do.

    Returns:
        By a layer's name in the backbone, such as ``up.0.3``, the share of the variance of the features it enters, all
        channels and all places together, that it explains: 1 is an exact map, 0 no better than their mean.

    Raises:
        ValueError: no images on any rank.
    """
    device = next(backbone.parameters()).device
    pairs = [_PairMoments(backbone, pair, device) for pair in range(len(backbone.anchors) - 1)]
    was_training = backbone.training
    backbone.eval()
    for batch in batches:
        images, is_image = batch if isinstance(batch, tuple) else (batch, batch.new_ones(batch[:, 0].shape))
        images, is_image = images.to(device), is_image.to(device)
        # Anchors that can be stitched lay their tokens out alike.
        counts = _tokens_that_count(backbone.anchors[0], is_image)
        features = [_boundary_features(backbone, index, images) for index in range(len(backbone.anchors))]
        for pair in pairs:
            pair.add(features[pair.index], features[pair.index + 1], counts)
    backbone.train(was_training)
    explained = {name: share for pair in pairs for name, share in pair.solve().items()}
    backbone.copy_layers()
    return explained


def _boundary_features(backbone: StitchedViT, index: int, images: Tensor) -> dict[int, Tensor]:
    """Tokens (T, C) of one anchor after each number of blocks at which some pair may switch."""
    space, anchor = backbone.space, backbone.anchors[index]
    stops: set[int] = set()
    for pair in range(len(backbone.anchors) - 1):
        if index in (pair, pair + 1):
            stops |= {place[index - pair] for places in layer_places(space, pair).values() for place in places}
    tokens, grid = anchor.embed(images)
    features, start = {}, 0
    for stop in sorted(stops):
        tokens = anchor.run(tokens, start, stop, grid)
        features[stop], start = tokens.flatten(0, -2), stop
    return features


def _tokens_that_count(anchor: Anchor, is_image: Tensor) -> Tensor:
    """Ones and zeros (T, 1) for an anchor's tokens, from a mask of pixels (B, H, W)."""
    patches = F.max_pool2d(is_image.float(), anchor.patch_size, ceil_mode=True)
    return F.pad(patches.flatten(1), (anchor.num_prefix_tokens, 0), value=1.0).reshape(-1, 1)


class _PairMoments:
    """Second moments of two neighbours' features ``[x, 1]`` at every boundary, and the solutions they give."""

    def __init__(self, backbone: StitchedViT, index: int, device: torch.device) -> None:
        self.index = index
        self.backbone = backbone
        small, large = (backbone.anchors[index + i].embed_dim + 1 for i in range(2))
        self.places = layer_places(backbone.space, index)
        zeros = {'dtype': torch.float64, 'device': device}
        self.small = {k: torch.zeros(small, small, **zeros) for k in self.places}
        self.large = {k: torch.zeros(large, large, **zeros) for k in self.places}
        self.cross = {k: torch.zeros(small, large, **zeros) for k in self.places}

    def add(self, small_features: dict[int, Tensor], large_features: dict[int, Tensor], counts: Tensor) -> None:
        """Add tokens (T, C), as many times as ``counts`` (T, 1) says."""
        for k, (stop, start) in ((k, place) for k, places in self.places.items() for place in places):
            # Rows of zeros add nothing. Removing them would make the CPU wait until a GPU has counted the others.
            small = _with_one(small_features[stop]) * counts
            large = _with_one(large_features[start]) * counts
            self.small[k] += small.T @ small
            self.large[k] += large.T @ large
            self.cross[k] += small.T @ large

    def solve(self) -> dict[str, float]:
        """Set the pair's layers; the share of variance that each explains."""
        explained = {}
        for k in self.places:
            small, large, cross = self.small[k], self.large[k], self.cross[k]
            for moments in (small, large, cross):
                all_reduce(moments)
            if small[-1, -1] == 0:
                raise UserError('the least-squares start needs training images, got none')
            for direction, source, target, product in (('up', small, large, cross), ('down', large, small, cross.T)):
                layers = getattr(self.backbone, direction)[self.index]
                if str(k) in layers:
                    # The pseudo-inverse also serves fewer tokens than channels: a singular system.
                    solution = torch.linalg.pinv(source, hermitian=True) @ product
                    _set_affine(layers[str(k)], solution)
                    explained[f'{direction}.{self.index}.{k}'] = _explained_variance(solution, product, target)
        return explained


def _set_affine(layer: torch.nn.Module, solution: Tensor) -> None:
    # The target's own constant is the last column: not part of the map.
    layer.set_affine(solution[:-1, :-1].T, solution[-1, :-1])
    # Solvers on different devices may differ in the last bits, so all ranks take the solution of rank 0.
    broadcast(layer.weight.data)
    broadcast(layer.bias.data)


def _explained_variance(solution: Tensor, product: Tensor, target: Tensor) -> float:
    """Share of the variance of targets y that the best map from sources x explains.

    Args:
        solution: the map (X + 1, Y + 1), constants last.
        product: sums of ``[x, 1]`` times ``[y, 1]`` (X + 1, Y + 1).
        target: sums of ``[y, 1]`` times ``[y, 1]`` (Y + 1, Y + 1).
    """
    sums, count = target[-1, :-1], target[-1, -1]
    variance = target.diagonal()[:-1].sum() - sums.square().sum() / count
    # Of a least-squares solution, what it predicts and what it leaves over are orthogonal.
    residual = target.diagonal()[:-1].sum() - (solution * product)[:, :-1].sum()
    return 1 - (residual / variance).item() if variance > 0 else 1.0


def _with_one(features: Tensor) -> Tensor:
    """Features (T, C) -> (T, C + 1) in float64, with a constant one at the end."""
    return F.pad(features.double(), (0, 1), value=1.0)
