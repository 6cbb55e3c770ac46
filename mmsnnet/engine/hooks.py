"""The hook that trains a stitched model: least-squares start, then one route an iteration."""

import math
import random
import time
from collections.abc import Iterator, Sequence

import torch
from mmengine.dataset import pseudo_collate
from mmengine.dist import all_gather, get_dist_info, get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn

from mmsnnet.engine.batches import mask_padding
from mmsnnet.engine.checks import check_annotations, check_checkpoint, check_heads, check_parallel, check_strides
from mmsnnet.engine.data_order import seed_each_sample
from mmsnnet.engine.finite_loss import ACTIONS, FiniteLossGuard
from mmsnnet.engine.memory_check import check_memory
from mmsnnet.engine.randomness import seed_generators, seeded, shared_seed
from mmsnnet.engine.runners import find_input_shape, unwrapped_model
from mmsnnet.models import find_backbone, route_costs, solve_stitching_layers
from mmsnnet.registry import HOOKS, ROUTE_SAMPLERS, register
from mmsnnet.settings import check_word
from mmsnnet.stitching import (
    CostIntervalSampler,
    CostTable,
    LossSampler,
    ResourceConstrainedSampler,
    SandwichSampler,
    UniformSampler,
    read_records,
    route_of,
)

for _sampler in (UniformSampler, ResourceConstrainedSampler, CostIntervalSampler, SandwichSampler, LossSampler):
    ROUTE_SAMPLERS.register_module(module=_sampler)


@register(HOOKS)
class StitchSamplingHook(Hook):
    """Trains a ``StitchedViT`` inside any model: solves its stitching layers, then sets one route each iteration.

    Before the first iteration the stitching layers are solved by least squares on a few training images, unless a
    checkpoint brought them. The cost of every route is measured on the model itself. Route id and GFLOPs of each
    iteration go to the log and the visualisation backends, as ``route`` and ``route_gflops``.

    Random states are a function of seed, rank, iteration and sample: a resumed run equals one that never stopped.

    Args:
        sampler: of ``mmsnnet.ROUTE_SAMPLERS``; gets ``gflops``, ``seed``, and for ``records``, a file, what is in it.
        init_images: training images for the least-squares start, over all ranks; 0 leaves the layers random.
        input_shape: (height, width) at which costs are measured; by default that of the training images.
        seed: of the sampler and of the choice of images; by default the runner's.
        draw_per: ``'step'``: one route for all batches that gradients are accumulated over; ``'batch'``: one for each.
        per_rank_routes: let each rank draw its own route; gradients are averaged over ranks as always.
        on_nonfinite_loss: ``'stop'`` before the weights are spoilt, or ``'skip'`` that optimizer step. Where a dynamic
            loss scale falls at such a step, some are skipped before training stops.

    Raises:
        ValueError: an unknown word.
    """

    priority = 'NORMAL'

    def __init__(
        self,
        sampler: dict | None = None,
        init_images: int = 50,
        input_shape: Sequence[int] | None = None,
        seed: int | None = None,
        draw_per: str = 'step',
        per_rank_routes: bool = False,
        on_nonfinite_loss: str = 'stop',
    ) -> None:
        self.sampler_cfg = sampler or {'type': 'ResourceConstrainedSampler', 'step_gflops': 10}
        self.init_images = init_images
        self.input_shape = tuple(input_shape) if input_shape else None
        self.seed = seed
        self.draw_per = check_word('draw_per', draw_per, ('step', 'batch'))
        self.per_rank_routes = per_rank_routes
        self.on_nonfinite_loss = check_word('on_nonfinite_loss', on_nonfinite_loss, ACTIONS)
        self._has_stitching_layers = False
        self._sampler_state: dict | None = None
        self.costs: CostTable | None = None

    def before_run(self, runner: Runner) -> None:
        """Refuse what cannot work, before weights are loaded."""
        check_parallel(runner)
        find_backbone(runner.model)
        check_heads(runner)
        check_strides(runner)
        check_annotations(runner)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Note whether solved layers are coming; refuse a checkpoint of another architecture."""
        self._has_stitching_layers = check_checkpoint(runner, checkpoint)
        if runner._resume:
            self._sampler_state = checkpoint.get('route_sampler')

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Keep what the sampler has learnt."""
        if hasattr(self.sampler, 'state_dict'):
            checkpoint['route_sampler'] = self.sampler.state_dict()

    def before_train(self, runner: Runner) -> None:
        model = unwrapped_model(runner)
        self.backbone = find_backbone(model)
        self._seed = shared_seed(runner, self.seed)
        input_shape = self.input_shape or find_input_shape(runner)
        self.costs = route_costs(model, input_shape)
        self.sampler = self._build_sampler()
        check_memory(runner, input_shape)
        self._batches_per_step = runner.optim_wrapper._accumulative_counts
        self._guard = FiniteLossGuard(
            model,
            runner.optim_wrapper,
            self.on_nonfinite_loss,
            lambda: f'iteration {runner.iter + 1}, stitch {self.backbone.route}',
            runner.logger,
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
            self._solve(runner, model)

    def before_train_epoch(self, runner: Runner) -> None:
        seed_each_sample(runner, self._seed)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        # MMEngine saves no random states: drop path and dropout draw from those of an iteration.
        seed_generators(self._seed, get_rank(), runner.iter)
        draw = runner.iter // self._batches_per_step if self.draw_per == 'step' else runner.iter
        if self.per_rank_routes:
            rank, num_ranks = get_dist_info()
            draw = draw * num_ranks + rank
        route = self.backbone.set_route(self.sampler(draw))
        runner.message_hub.update_scalar('train/route', route.id)
        runner.message_hub.update_scalar('train/route_gflops', self.costs[route.id].gflops)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        # Where gradients overflowed in half precision, the optimizer was not asked to step.
        if runner.optim_wrapper.should_update():
            self._guard.check()
        if hasattr(self.sampler, 'update'):
            self._tell_sampler(outputs['loss'])

    def after_train(self, runner: Runner) -> None:
        self._guard.remove()

    def before_val(self, runner: Runner) -> None:
        """A loop that sets no route evaluates the largest anchor, not whatever was drawn last."""
        backbone = find_backbone(runner.model)
        backbone.set_route(len(backbone.anchors) - 1)

    def _build_sampler(self) -> UniformSampler:
        cfg = {'_scope_': 'mmsnnet', 'gflops': self.costs.gflops, 'seed': self._seed, **self.sampler_cfg}
        if isinstance(cfg.get('records'), str):
            cfg['records'] = read_records(cfg['records'])
            for record in cfg['records']:
                route_of(self.backbone.space, record)
        sampler = ROUTE_SAMPLERS.build(cfg)
        if self._sampler_state:
            sampler.load_state_dict(self._sampler_state)
        return sampler

    def _tell_sampler(self, loss: Tensor) -> None:
        """The losses of all ranks, in one order, so that their samplers stay alike."""
        own = torch.stack([loss.new_tensor(self.backbone.route.id, dtype=torch.float64), loss.double()])
        for route_id, value in (pair.tolist() for pair in all_gather(own)):
            if math.isfinite(value):
                self.sampler.update(int(route_id), value)

    def _solve(self, runner: Runner, model: nn.Module) -> None:
        start = time.time()
        dataset = runner.train_dataloader.dataset
        count = min(self.init_images, len(dataset))
        indices = random.Random(self._seed).sample(range(len(dataset)), count)
        rank, num_ranks = get_dist_info()
        images = _training_images(model, dataset, indices[rank::num_ranks], self._seed)
        explained = solve_stitching_layers(self.backbone, images)
        runner.logger.info(f'least-squares start on {count} training images: {time.time() - start:.1f} s')
        shares = ', '.join(f'{name} {share:.1%}' for name, share in explained.items())
        runner.logger.info(f'variance of the features entered that stitching layers explain: {shares}')


def _training_images(
    model: nn.Module, dataset: Sequence, indices: Sequence[int], seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Preprocessed training images (1, 3, H, W), augmented alike whichever rank loads them, and masks of padding."""
    for index in indices:
        with seeded(seed, index):
            batch = model.data_preprocessor(pseudo_collate([dataset[index]]), training=True)
        yield batch['inputs'], mask_padding(batch['inputs'], batch['data_samples'])
