"""A short training of the stitching layers alone, before all else trains (after arXiv 2603.12433)."""

from itertools import islice

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor

from mmsnnet.engine.runners import unwrapped_model
from mmsnnet.models import StitchedViT, find_backbone


@HOOKS.register_module()
class StitchingLayerWarmUpHook(Hook):
    """Lets the stitching layers match, at the end of each route, the last features of the anchor that it ends in.

    Args:
        iterations: batches; each trains one of the routes that the model will train.
        lr: learning rate of Adam.
    """

    # After the hook that solves the stitching layers.
    priority = 'LOW'

    def __init__(self, iterations: int = 100, lr: float = 1e-3) -> None:
        self.iterations = iterations
        self.lr = lr

    def before_train(self, runner: Runner) -> None:
        """Train the stitching layers."""
        model = unwrapped_model(runner)
        backbone = find_backbone(model)
        routes = [route for route in backbone.space if route.kind != 'anchor' and route.id in backbone.trained_routes]
        layers = [parameter for part in (backbone.up, backbone.down) for parameter in part.parameters()]
        optimizer = torch.optim.Adam([layer for layer in layers if layer.requires_grad], lr=self.lr)
        losses = []
        for index, batch in enumerate(islice(runner.train_dataloader, self.iterations)):
            images = model.data_preprocessor(batch, training=True)['inputs']
            loss = mismatch(backbone, routes[index % len(routes)].id, images)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        model.zero_grad()
        tenth = max(1, len(losses) // 10)
        first, last = (sum(part) / tenth for part in (losses[:tenth], losses[-tenth:]))
        runner.logger.info(f'warm-up of the stitching layers: mismatch of {first:.3f} fell to {last:.3f}')


def mismatch(backbone: StitchedViT, route_id: int, images: Tensor) -> Tensor:
    """Mean squared error of a route's last map of images (B, 3, H, W), relative to the variance of the anchor's."""
    backbone.set_route(route_id)
    *_, given = backbone(images)
    with torch.no_grad():
        backbone.set_route(backbone.exit.anchor)
        *_, expected = backbone(images)
    return (given - expected).square().mean() / expected.var()
