"""The least-squares start of stitching layers, by streaming normal equations (SN-Net, section 3.3)."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from mmengine.dist import all_reduce, broadcast
from torch import Tensor

from mmsnnet.errors import UserError
from mmsnnet.models.anchors import Anchor
from mmsnnet.models.stitched_vit import StitchedViT
from mmsnnet.stitching import Layer, all_layers
from mmsnnet.stitching.plan import layer_places

# Numbers of blocks of the small and the large anchor behind which a layer connects them.
Places = tuple[tuple[int, int], ...]


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
        features = [_boundary_features(backbone, index, images) for index in range(len(backbone.anchors))]
        for pair in pairs:
            pair.add(features[pair.index], features[pair.index + 1], is_image)
    backbone.train(was_training)
    explained = {name: share for pair in pairs for name, share in pair.solve().items()}
    backbone.copy_layers()
    return explained


def _boundary_features(backbone: StitchedViT, index: int, images: Tensor) -> dict[int, Tensor]:
    """Tokens (T, C) of one anchor after each number of blocks at which some pair may switch."""
    anchor = backbone.anchors[index]
    pairs = range(max(0, index - 1), min(index + 1, len(backbone.anchors) - 1))
    stops = {place[index - pair] for pair in pairs for places in _layers_of(backbone, pair) for place in places}
    tokens, grid = anchor.embed(images)
    features, start = {}, 0
    for stop in sorted(stops):
        tokens = anchor.run(tokens, start, stop, grid)
        features[stop], start = tokens.flatten(0, -2), stop
    return features


def _layers_of(backbone: StitchedViT, pair: int) -> dict[Places, list[Layer]]:
    """Stitching layers of a pair of anchors by the places that they connect: ``up`` and ``down``, or one alone."""
    layers: dict[Places, list[Layer]] = {}
    for layer in all_layers(backbone.space, backbone.own_exits, backbone.out_indices):
        if layer.pair == pair:
            layers.setdefault(layer_places(backbone.space, layer), []).append(layer)
    return layers


def _tokens_that_count(anchor: Anchor, blocks: int, is_image: Tensor) -> Tensor:
    """Ones and zeros (T, 1) for an anchor's tokens after so many blocks, from a mask of pixels (B, H, W)."""
    tokens = F.max_pool2d(is_image.float(), anchor.stride_after(blocks), ceil_mode=True)
    return F.pad(tokens.flatten(1), (anchor.num_prefix_tokens, 0), value=1.0).reshape(-1, 1)


class _PairMoments:
    """Second moments of two neighbours' features ``[x, 1]`` where layers connect them, and the solutions they give."""

    def __init__(self, backbone: StitchedViT, index: int, device: torch.device) -> None:
        self.index = index
        self.backbone = backbone
        self.layers = _layers_of(backbone, index)
        self.moments = {places: self._zeros(places, device) for places in self.layers}

    def add(self, small_features: dict[int, Tensor], large_features: dict[int, Tensor], is_image: Tensor) -> None:
        """Add tokens (T, C) of images, by the number of blocks behind them, those of pixels of a mask (B, H, W)."""
        anchor = self.backbone.anchors[self.index]
        for places, (small_moments, large_moments, cross_moments) in self.moments.items():
            # Anchors that can be stitched lay their tokens out alike.
            counts = _tokens_that_count(anchor, places[0][0], is_image)
            for stop, start in places:
                # Rows of zeros add nothing. Removing them would make the CPU wait until a GPU has counted the others.
                small = _with_one(small_features[stop]) * counts
                large = _with_one(large_features[start]) * counts
                small_moments += small.T @ small
                large_moments += large.T @ large
                cross_moments += small.T @ large

    def solve(self) -> dict[str, float]:
        """Set the pair's layers; the share of variance that each explains."""
        explained = {}
        for places, (small, large, cross) in self.moments.items():
            for moments in (small, large, cross):
                all_reduce(moments)
            if small[-1, -1] == 0:
                raise UserError('the least-squares start needs training images, got none')
            for layer in self.layers[places]:
                is_down = layer.direction == 'down'
                source, target, product = (large, small, cross.T) if is_down else (small, large, cross)
                # The pseudo-inverse also serves fewer tokens than channels: a singular system.
                solution = torch.linalg.pinv(source, hermitian=True) @ product
                _set_affine(self.backbone.layer(layer), solution)
                name = f'{layer.direction}.{layer.pair}.{layer.k}'
                explained[name] = _explained_variance(solution, product, target)
        return explained

    def _zeros(self, places: Places, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """For features of the small anchor, of the large one, and of both."""
        pair = self.backbone.anchors[self.index : self.index + 2]
        small, large = (anchor.width_after(count) + 1 for anchor, count in zip(pair, places[0], strict=True))
        shapes = ((small, small), (large, large), (small, large))
        return tuple(torch.zeros(shape, dtype=torch.float64, device=device) for shape in shapes)


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
