"""The hook that trains a stitched model: least-squares start, then one route an iteration."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from mmsnnet.engine.checks import check_before_run, check_checkpoint
from mmsnnet.engine.data_order import seed_each_sample
from mmsnnet.engine.exit_checks import check_averaging, check_finished, check_synced_norms
from mmsnnet.engine.finite_loss import ACTIONS, FiniteLossGuard
from mmsnnet.engine.focus import Focus
from mmsnnet.engine.least_squares_start import start_from_least_squares
from mmsnnet.engine.memory_check import check_memory
from mmsnnet.engine.randomness import seed_generators, shared_seed
from mmsnnet.engine.runners import find_input_shape, is_training, training_input_shape, unwrapped_model
from mmsnnet.engine.samplers import FocusedSampler, draw_number, warn_of_one_group
from mmsnnet.models import StitchedViT, find_backbone, route_costs
from mmsnnet.models.weights import weights_in
from mmsnnet.registry import HOOKS, register
from mmsnnet.settings import check_word
from mmsnnet.stitching import CostTable
from mmsnnet.stitching.selection import RouteSelection


@register(HOOKS)
class StitchSamplingHook(Hook):
    """Trains a ``StitchedViT`` inside any model: solves its stitching layers, then sets one route each iteration.

    Before the first iteration the stitching layers are solved by least squares on a few training images, unless a
    checkpoint brought them; ``stitching_layers.json`` in the runner's log folder then says how much of the variance of
    the features it enters each layer explains. The cost of every route is measured on the model itself. Route id and
    GFLOPs of each iteration go to the log and the visualisation backends, as ``route`` and ``route_gflops``.

    Routes of finished anchors (``exact`` of the backbone) have nothing to train and are never drawn.

    Random states are a function of seed, rank, iteration and sample: a resumed run equals one that never stopped.

    Args:
        sampler: of ``mmsnnet.ROUTE_SAMPLERS``; gets ``gflops``, ``seed``, and for ``records``, a file, what is in it.
            One that learns begins anew when routes leave the focus.
        init_images: training images for the least-squares start, over all ranks; 0 leaves the layers random.
        input_shape: (height, width) at which costs are measured; by default the window of tests, or that of training.
        seed: of the sampler and of the choice of images; by default the runner's.
        draw_per: ``'step'``: one route for all batches that gradients are accumulated over; ``'batch'``: one for each.
        per_rank_routes: let each rank draw its own route; gradients are averaged over ranks as always.
        on_nonfinite_loss: ``'stop'`` before the weights are spoilt, or ``'skip'`` that optimizer step. Where a dynamic
            loss scale falls at such a step, some are skipped before training stops.
        focus: the routes to train. None: all. A list of ids and names, or a word that ``select_routes`` takes: only
            these. ``dict(routes=8, by='loss')``: few that are chosen, see ``FocusChoice``. The sampler draws among them
            as if there were no others.

    Attributes:
        backbone, costs, sampler: known once training has started.

    Raises:
        ValueError: an unknown word; an unknown key or value of ``focus``.
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
        focus: Mapping[str, Any] | RouteSelection | None = None,
    ) -> None:
        self.focus = Focus(focus)
        self.sampler_cfg = sampler or {'type': 'ResourceConstrainedSampler', 'step_gflops': 10}
        self.init_images = init_images
        self.input_shape = tuple(input_shape) if input_shape else None
        self.seed = seed
        self.draw_per = check_word('draw_per', draw_per, ('step', 'batch'))
        self.per_rank_routes = per_rank_routes
        self.on_nonfinite_loss = check_word('on_nonfinite_loss', on_nonfinite_loss, ACTIONS)
        self.backbone: StitchedViT | None = None
        self.costs: CostTable | None = None
        self.sampler: FocusedSampler | None = None
        self._layers_are_solved = False
        self._given: dict[str, Tensor] = {}
        self._resumed: dict = {}
        self._trained_before: frozenset[int] = frozenset()
        self._shared_seed = 0
        self._batches_per_draw = 1
        self._guard: FiniteLossGuard | None = None

    def before_run(self, runner: Runner) -> None:
        """Refuse what cannot work, before weights are loaded."""
        check_before_run(runner)
        if self.per_rank_routes and runner.world_size > 1 and is_training(runner):
            check_synced_norms(unwrapped_model(runner))

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Note whether solved layers are coming; refuse a checkpoint of another architecture."""
        self._layers_are_solved = check_checkpoint(runner, checkpoint)
        # Shapes alone: the weights themselves take memory.
        self._given = {name: value.to('meta') for name, value in weights_in(checkpoint).items()}
        backbone, names = find_backbone(runner.model), checkpoint.get('trained_routes')
        routes = [backbone.space.find(name) for name in names or ()]
        backbone.trained_routes = None if names is None else frozenset(route.id for route in routes)
        if routes and all(route.kind == 'anchor' for route in routes) and not runner._resume:
            # A checkpoint of tools/stitch.py: no route has used its stitching layers.
            self._layers_are_solved = False
        if runner._resume:
            self._resumed = {key: checkpoint.get(key) for key in ('focus', 'route_sampler', 'trained_before')}

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Keep which routes are trained, and what focus and sampler have learnt."""
        backbone = find_backbone(runner.model)
        if backbone.trained_routes is not None:
            checkpoint['trained_routes'] = [backbone.space[id_].name for id_ in sorted(backbone.trained_routes)]
        if self.sampler:
            checkpoint['trained_before'] = sorted(self._trained_before)
            checkpoint['focus'] = self.focus.state_dict(backbone)
            checkpoint['route_sampler'] = self.sampler.state_dict()

    def before_train(self, runner: Runner) -> None:
        """Measure costs, build the sampler, solve the stitching layers, choose routes, and check memory."""
        model = unwrapped_model(runner)
        input_shape = self.input_shape or find_input_shape(runner)
        self.backbone = find_backbone(model)
        check_finished(model, self._given)
        check_averaging(runner)
        self.costs = route_costs(model, input_shape)
        self._shared_seed = shared_seed(runner, self.seed)
        self._batches_per_draw = runner.optim_wrapper._accumulative_counts if self.draw_per == 'step' else 1
        state = self._resumed.get('focus')
        # A resumed run began with what the interrupted one began with.
        before = self._resumed.get('trained_before', self.backbone.trained_routes)
        self._trained_before = frozenset(before or ())
        if self._resumed and self.focus.choice is None:
            # The list may have changed, and what the interrupted run trained stays trained.
            self._trained_before |= self.backbone.trained_routes or frozenset()
        self.focus.start(runner, self.costs.gflops, self._shared_seed, self._batches_per_draw, state)
        self._start_sampler(self._resumed.get('route_sampler'))
        if self._layers_are_solved:
            runner.logger.info('stitching layers come from the checkpoint: no least-squares start')
        elif self.init_images:
            start_from_least_squares(runner, self.init_images, self._shared_seed)
        if self.focus.choose(runner):
            self._start_sampler()
        warn_of_one_group(self.sampler, self.sampler_cfg, runner.logger)
        trained_shape = self.input_shape or training_input_shape(model, runner.cfg)
        check_memory(runner, trained_shape, [self.backbone.space[id_] for id_ in self.focus.routes])
        self._guard = FiniteLossGuard(runner, self.on_nonfinite_loss)

    def _start_sampler(self, state: dict | None = None) -> None:
        """Draw among the routes of the focus, which count as trained."""
        self.backbone.trained_routes = self.focus.trained(self.backbone) | self._untouched()
        settings = (self.sampler_cfg, self.backbone.space, self.costs.gflops, self._shared_seed)
        self.sampler = FocusedSampler(*settings, self.focus.routes)
        self.sampler.load_state_dict(state or {})

    def _untouched(self) -> set[int]:
        """Routes that were trained before, and that share no weights with those that train now."""
        tuning_of = {route.id: self.backbone.tuning_of(route) for route in self.backbone.space}
        changing = {tuning_of[id_] for id_ in self.focus.routes}
        return {id_ for id_ in self._trained_before if self.backbone.exact and tuning_of[id_] not in changing}

    def before_train_epoch(self, runner: Runner) -> None:
        """Make samples independent of where and when they are loaded."""
        seed_each_sample(runner, self._shared_seed)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Draw and log the route of an iteration; choose some first where that is due."""
        if self.focus.choose(runner):
            self._start_sampler()
        # MMEngine saves no random states: drop path and dropout draw from those of an iteration.
        seed_generators(self._shared_seed, get_rank(), runner.iter)
        draw = draw_number(runner.iter, self._batches_per_draw, self.per_rank_routes)
        route = self.backbone.set_route(self.sampler(draw))
        runner.message_hub.update_scalar('train/route', route.id)
        runner.message_hub.update_scalar('train/route_gflops', self.costs[route.id].gflops)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Check the loss, and let a sampler that learns know it."""
        # Where gradients overflowed in half precision, the optimizer was not asked to step.
        if runner.optim_wrapper.should_update():
            self._guard.check()
        self.sampler.update(self.backbone.route.id, outputs['loss'])

    def after_train(self, runner: Runner) -> None:
        self._guard.remove()

    def before_val(self, runner: Runner) -> None:
        """A loop that sets no route evaluates the largest anchor, not whatever was drawn last."""
        backbone = find_backbone(runner.model)
        backbone.set_route(len(backbone.anchors) - 1)
