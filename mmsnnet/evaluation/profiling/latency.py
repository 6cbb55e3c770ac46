"""How long routes take, and how much memory: measured pass by pass, or estimated from the times of their blocks."""

import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from mmsnnet.errors import UserError
from mmsnnet.evaluation.precision import DTYPES
from mmsnnet.evaluation.profiling.cuda_graph import captured
from mmsnnet.evaluation.profiling.peak_memory import peak_memory
from mmsnnet.models import find_backbone
from mmsnnet.models.backbone import giving
from mmsnnet.models.compilation import compile_parts
from mmsnnet.models.flop_counter import shapes_of
from mmsnnet.models.tasks import task_of
from mmsnnet.models.tuning import folded_updates
from mmsnnet.settings import check_int, check_word
from mmsnnet.stitching import Route, Run, Switch
from mmsnnet.stitching.plan import Step, single_steps

# In these cuDNN chooses algorithms, allocators get memory, and blocks compile.
WARMUP_PASSES = 3

Kind = Hashable


@dataclass(frozen=True)
class LatencySetting:
    """How to time.

    Attributes:
        input_shape: (height, width).
        batch_size: images a pass; times are for one image.
        dtype: one of ``DTYPES``; mixed precision unless float32.
        compiled: whether blocks are compiled first.
        repetitions: timed passes of each route.
        cuda_graph: whether each pass runs as one CUDA graph, without launching each kernel: for batches too small to
            fill a GPU. Estimates are without.
    """

    input_shape: tuple[int, int]
    batch_size: int = 1
    dtype: str = 'float32'
    compiled: bool = False
    repetitions: int = 5
    cuda_graph: bool = False

    def check(self, device: torch.device) -> None:
        """Raise a ``UserError`` if a device cannot be timed in this way."""
        check_int('batch_size', self.batch_size, 1)
        check_int('repetitions', self.repetitions, 1)
        check_word('dtype', self.dtype, tuple(DTYPES))
        if self.cuda_graph and device.type != 'cuda':
            raise UserError(f'cuda_graph times a model on CUDA, this one is on {device}: leave out cuda_graph')

    def images(self, device: torch.device) -> Tensor:
        """Random images (B, 3, H, W): times do not depend on their content."""
        generator = torch.Generator().manual_seed(0)
        return torch.randn(self.batch_size, 3, *self.input_shape, generator=generator).to(device)


@dataclass
class Measurement:
    """Results of a route's timed passes.

    Attributes:
        activations_mb: the most MiB beyond the images and the model.
        samples_ms: milliseconds an image, one a pass.
    """

    activations_mb: float
    samples_ms: list[float] = field(default_factory=list)


class LatencyBench:
    """Times the routes of a model in evaluation mode: backbone and heads, without loading, resizing and decoding.

    Args:
        model: an MMEngine model with a ``StitchedViT``, or a ``StitchedViT``.
        setting: how.

    Raises:
        UserError: a CUDA graph is asked for on another device.
    """

    def __init__(self, model: nn.Module, setting: LatencySetting) -> None:
        self.model = model
        self.backbone = find_backbone(model)
        self.setting = setting
        self.device = next(model.parameters()).device
        setting.check(self.device)
        self.images = setting.images(self.device)
        if setting.compiled:
            compile_parts(self.backbone)

    def measure(
        self,
        routes: Sequence[Route],
        known: dict[Route, Measurement] | None = None,
        save: Callable[[dict[Route, Measurement]], None] | None = None,
    ) -> dict[Route, Measurement]:
        """Time every route ``repetitions`` times, in turns, so that drift affects all routes alike.

        Before a route's first turn, some passes warm up, and one more measures its memory.

        Args:
            known: measurements of an interrupted call.
            save: called after each timed pass with all measurements.
        """
        measured = {route: (known or {}).get(route) for route in routes}
        warm: set[Route] = set()
        with self._ready():
            for turn in range(self.setting.repetitions):
                for route in routes:
                    if measured[route] and len(measured[route].samples_ms) > turn:
                        continue
                    self.backbone.set_route(route)
                    if route not in warm:
                        self._warm_up()
                        warm.add(route)
                    if measured[route] is None:
                        measured[route] = Measurement(peak_memory(self._run, self.device) / 2**20)
                    measured[route].samples_ms.append(self._time(self._timed_run()))
                    if save:
                        save(measured)
        return measured

    def estimate(self, routes: Sequence[Route]) -> dict[Route, float]:
        """Estimated milliseconds per image: the sum of the times of a route's blocks and layers.

        Times the parts of the anchors, and of a few routes that together have every kind of stitching layer.
        """
        with self._ready():
            parts = self._time_parts()
        return {route: sum(parts[part] for part in self._parts(route)) for route in routes}

    def _run(self) -> Any:
        """One pass of the route that is set."""
        with self._precision():
            return (
                self.backbone(self.images) if self.model is self.backbone else task_of(self.model).outputs(self.images)
            )

    def _timed_run(self) -> Callable[[], Any]:
        return captured(self._run, self.device, WARMUP_PASSES) if self.setting.cuda_graph else self._run

    def _precision(self) -> AbstractContextManager:
        """Mixed precision of a single pass: each pass casts its own weights, whatever ran before."""
        dtype, cuda_graph = DTYPES[self.setting.dtype], self.setting.cuda_graph
        # Weights that were cast while a graph was captured are in that graph's memory.
        return torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32, cache_enabled=not cuda_graph)

    def _warm_up(self) -> None:
        """Run the route that is set until its passes take the same time."""
        for _ in range(WARMUP_PASSES):
            self._run()
        while self.setting.compiled:
            graphs = _num_compiled_graphs()
            self._run()
            if _num_compiled_graphs() == graphs:
                return

    def _time(self, run: Callable[[], Any]) -> float:
        """Milliseconds per image."""
        marks = _Marks(self.device)
        marks.set()
        run()
        marks.set()
        return marks.milliseconds()[0] / self.setting.batch_size

    def _time_parts(self) -> dict[Kind, float]:
        """Median milliseconds per image of each kind of part of the covering routes' passes."""
        samples: dict[Kind, list[float]] = {}
        for turn in range(WARMUP_PASSES + self.setting.repetitions):
            for route in self._covering_routes():
                for part, milliseconds in self._time_route_by_parts(route):
                    if turn >= WARMUP_PASSES:
                        samples.setdefault(part, []).append(milliseconds / self.setting.batch_size)
        return {part: median(values) for part, values in samples.items()}

    def _time_route_by_parts(self, route: Route) -> list[tuple[Kind, float]]:
        """(part, milliseconds) of one pass."""
        marks, backbone = _Marks(self.device), self.backbone
        backbone.set_route(route)
        with self._precision():
            marks.set()
            state = backbone.start(self.images, route.spans[0].anchor)
            marks.set()
            for step in self._steps(route):
                state = backbone.advance(state, (step,))
                marks.set()
            with giving(backbone, state.levels):
                self._run()
            marks.set()
        return list(zip(self._parts(route), marks.milliseconds(), strict=True))

    def _parts(self, route: Route) -> list[Kind]:
        """Kinds of the parts of a route: embedding, its steps one block at a time, heads."""
        steps = self._steps(route)
        return [('embed', route.spans[0].anchor), *map(self._kind, steps), ('rest', steps[-1].exit.anchor)]

    def _steps(self, route: Route) -> list[Step]:
        return list(single_steps(self.backbone.plan_of(route)))

    def _kind(self, step: Step) -> Kind:
        """A key that steps of equal time share."""
        if isinstance(step, Run):
            return step.anchor, bool(step.tuning), shapes_of(self.backbone.anchors[step.anchor].blocks[step.start])
        if isinstance(step, Switch):
            return step.layer.direction, shapes_of(self.backbone.layer(step.layer))
        return len(step.levels), step.stage, tuple(shapes_of(self.backbone.layer(layer)) for layer in step.layers)

    def _covering_routes(self) -> list[Route]:
        """The anchors, and the first route with each kind of part that no route before has."""
        covered: set = set()
        covering = []
        for route in self.backbone.space:
            kinds = set(self._parts(route))
            if not kinds <= covered:
                covering.append(route)
                covered |= kinds
        return covering

    @contextmanager
    def _ready(self) -> Iterator[None]:
        """Put the model into evaluation mode, with adapters as they are exported; restore it afterwards."""
        route, was_training = self.backbone.route, self.model.training
        self.model.eval()
        try:
            with torch.no_grad(), folded_updates(self.model):
                yield
        finally:
            self.model.train(was_training)
            self.backbone.set_route(route)


def time_by_turns(runs: dict[str, Callable[[], Any]], device: torch.device, repetitions: int) -> dict[str, float]:
    """Median milliseconds of some computations, timed A B C A B C ... after turns that warm up."""
    samples: dict[str, list[float]] = {name: [] for name in runs}
    with torch.no_grad():
        for turn in range(WARMUP_PASSES + repetitions):
            for name, run in runs.items():
                marks = _Marks(device)
                marks.set()
                run()
                marks.set()
                if turn >= WARMUP_PASSES:
                    samples[name] += marks.milliseconds()
    return {name: median(values) for name, values in samples.items()}


def _num_compiled_graphs() -> int:
    """Graphs that torch.compile has made in this process."""
    return torch._dynamo.utils.counters['stats']['unique_graphs']


class _Marks:
    """Points in time. On CUDA they are events on the device's clock, so that the CPU does not wait for them."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._marks: list[Any] = []

    def set(self) -> None:
        if self.device.type != 'cuda':
            self._marks.append(time.perf_counter())
            return
        event = torch.cuda.Event(enable_timing=True)
        # The model's device need not be the current one.
        event.record(torch.cuda.current_stream(self.device))
        self._marks.append(event)

    def milliseconds(self) -> list[float]:
        """Between each mark and the next."""
        pairs = list(zip(self._marks, self._marks[1:], strict=False))
        if self.device.type != 'cuda':
            return [(second - first) * 1e3 for first, second in pairs]
        torch.cuda.synchronize(self.device)
        return [first.elapsed_time(second) for first, second in pairs]
