"""The hook that trains a stitched model: least-squares start, then one route an iteration."""

import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from mmengine.dist import broadcast_object_list, get_dist_info
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn

from mmsnnet.engine.checks import check_annotations, check_checkpoint, check_heads, check_strides
from mmsnnet.engine.runners import find_input_shape, unwrapped_model
from mmsnnet.models import find_backbone, measure_costs, solve_stitching_layers
from mmsnnet.registry import HOOKS, ROUTE_SAMPLERS, register
from mmsnnet.stitching import CostTable, ResourceConstrainedSampler, UniformSampler

for _sampler in (UniformSampler, ResourceConstrainedSampler):
    ROUTE_SAMPLERS.register_module(module=_sampler)


@register(HOOKS)
class StitchSamplingHook(Hook):
    """Trains a ``StitchedViT`` inside any model: solves its stitching layers, then sets one route each iteration.

    Before the first iteration the stitching layers are solved by least squares on a few training images, unless a
    checkpoint brought them. The cost of every route is measured on the model itself. Route id and GFLOPs of each
    iteration go to the log and the visualisation backends, as ``route`` and ``route_gflops``.

    Args:
        sampler: of ``mmsnnet.ROUTE_SAMPLERS``; gets ``gflops`` and ``seed``.
        init_images: training images for the least-squares start, over all ranks; 0 leaves the layers random.
        input_shape: (height, width) at which costs are measured; by default that of the training images.
        seed: of the sampler and of the choice of images; by default the runner's.
    """

    priority = 'NORMAL'

    def __init__(
        self,
        sampler: dict | None = None,
        init_images: int = 50,
        input_shape: Sequence[int] | None = None,
        seed: int | None = None,
    ) -> None:
        self.sampler_cfg = sampler or {'type': 'ResourceConstrainedSampler', 'step_gflops': 10}
        self.init_images = init_images
        self.input_shape = tuple(input_shape) if input_shape else None
        self.seed = seed
        self._has_stitching_layers = False
        self.costs: CostTable | None = None

    def before_run(self, runner: Runner) -> None:
        """Refuse what cannot work, before weights are loaded."""
        find_backbone(runner.model)
        check_heads(runner)
        check_strides(runner)
        check_annotations(runner)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Note whether solved layers are coming; refuse a checkpoint of another architecture."""
        self._has_stitching_layers = check_checkpoint(runner, checkpoint)

    def before_train(self, runner: Runner) -> None:
        model = unwrapped_model(runner)
        self.backbone = find_backbone(model)
        seed = _shared_seed(runner, self.seed)
        self.costs = measure_costs(model, self.input_shape or find_input_shape(runner))
        self.sampler = ROUTE_SAMPLERS.build(
            {'_scope_': 'mmsnnet', 'gflops': self.costs.gflops, 'seed': seed, **self.sampler_cfg}
        )
        if len(getattr(self.sampler, 'groups', ())) == 1 and 'step_gflops' in self.sampler_cfg:
            runner.logger.warning(
                f'step_gflops={self.sampler_cfg["step_gflops"]} puts all {len(self.costs)} stitches, of '
                f'{min(self.costs.gflops):.4g} to {max(self.costs.gflops):.4g} GFLOPs, into one group: they are drawn '
                'uniformly; set sampler.step_gflops to a fraction of that range'
            )
        if self._has_stitching_layers:
            runner.logger.info('stitching layers come from the checkpoint: no least-squares start')
        elif self.init_images:
            self._solve(runner, model, seed)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        route = self.backbone.set_route(self.sampler(runner.iter))
        runner.message_hub.update_scalar('train/route', route.id)
        runner.message_hub.update_scalar('train/route_gflops', self.costs[route.id].gflops)

    def before_val(self, runner: Runner) -> None:
        """A loop that sets no route evaluates the largest anchor, not whatever was drawn last."""
        backbone = find_backbone(runner.model)
        backbone.set_route(len(backbone.anchors) - 1)

    def _solve(self, runner: Runner, model: nn.Module, seed: int) -> None:
        start = time.time()
        dataset = runner.train_dataloader.dataset
        count = min(self.init_images, len(dataset))
        indices = random.Random(seed).sample(range(len(dataset)), count)
        rank, num_ranks = get_dist_info()
        solve_stitching_layers(self.backbone, _training_images(model, dataset, indices[rank::num_ranks], seed))
        runner.logger.info(f'least-squares start on {count} training images: {time.time() - start:.1f} s')


def _training_images(model: nn.Module, dataset: Sequence, indices: Sequence[int], seed: int) -> Iterator[Tensor]:
    """Preprocessed training images (1, 3, H, W), augmented alike whichever rank loads them."""
    for index in indices:
        with _seeded(seed, index):
            batch = model.data_preprocessor(pseudo_collate([dataset[index]]), training=True)
        yield batch['inputs']


@contextmanager
def _seeded(seed: int, index: int) -> Iterator[None]:
    """Seed the global generators that augmentations draw from, and put them back: training does not notice."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    seed = random.Random(f'{seed}:{index}').getrandbits(32)
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


def _shared_seed(runner: Runner, seed: int | None) -> int:
    """One seed for all ranks, even where the runner gives each its own."""
    seeds = [runner.seed if seed is None else seed]
    broadcast_object_list(seeds)
    return seeds[0]
