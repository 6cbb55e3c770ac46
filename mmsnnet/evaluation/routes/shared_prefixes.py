"""Running many routes on the same images. Each starts where it parts from the routes before it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mmsnnet.errors import UserError
from mmsnnet.evaluation.routes.tree_walk import Frontier, walk, walk_together
from mmsnnet.models import StitchedViT
from mmsnnet.models.backbone import State
from mmsnnet.stitching import Route
from mmsnnet.stitching.prefix_tree import Node, PrefixTree

Levels = tuple[Tensor, ...]


class SharedPrefixes:
    """Visits routes in turn, so that no route computes again what another has computed.

    ```python
    with SharedPrefixes(backbone, routes) as sharing:
        for batch in batches:
            for route in sharing.visit():
                model.test_step(batch)
    ```

    The model runs as usual. It may call its backbone several times, for instance for the windows of a large image. The
    n-th calls of all routes share features if their images are equal. It is fastest to pass the same tensor, or the
    same view of one: other tensors are compared, and each comparison waits for a GPU. So normalise a batch once, not
    once a route.

    Because routes share features, a model that changes them in place is refused. In inference mode such changes cannot
    be detected, so the model gets copies.

    Args:
        backbone: whose ``forward`` is replaced within the context.
        routes: all different.
        last: the route to visit last; by default any.
        memory_budget_mb: for features that later routes need. A small budget costs time, but does not change results.
        route_batch: how many routes may run together, as one batch where they enter the same block. This fills a GPU
            that one image does not fill. Features then differ by rounding; with 1 they are those of each route alone.

    Attributes:
        peak_memory_mb: the largest size of what was kept.
    """

    def __init__(
        self,
        backbone: StitchedViT,
        routes: Sequence[Route],
        last: Route | None = None,
        memory_budget_mb: float = 2048,
        route_batch: int = 1,
    ) -> None:
        if route_batch < 1:
            raise UserError(f'route_batch must be 1 (one route at a time) or more, got {route_batch}')
        if memory_budget_mb < 0:
            raise UserError(f'memory_budget_mb must be 0 (keep nothing) or more, got {memory_budget_mb}')
        self.backbone = backbone
        self.memory_budget_mb = memory_budget_mb
        self.route_batch = route_batch
        self.peak_memory_mb = 0.0
        self._tree = PrefixTree({route: backbone.plan_of(route) for route in routes}, last)
        self._turn = {route: turn for turn, route in enumerate(self._tree.routes)}
        # The turn after which no route starts from a node: that of the first route of the node's last branch.
        self._last_use = {node: self._turn[_first_route(node)] for node in self._tree.root.walk()}
        self._calls: list[_Call] = []
        self._next_call = 0
        self._group: Sequence[Route] = ()
        self._handed_out: list[tuple[Tensor, int]] = []

    @property
    def routes(self) -> Sequence[Route]:
        """In the order of visits."""
        return self._tree.routes

    def __enter__(self) -> 'SharedPrefixes':
        self.backbone.forward = self._forward
        return self

    def __exit__(self, *_: object) -> None:
        del self.backbone.forward
        self._calls.clear()

    def visit(self, skip: int = 0) -> Iterator[Route]:
        """Set every route once but the first ``skip``, for one batch of images."""
        self._calls.clear()
        self._handed_out.clear()
        self._group = ()
        for route in self.routes[skip:]:
            self.backbone.set_route(route)
            self._next_call = 0
            if route not in self._group:
                self._group = self._choose_group(route)
            yield route
            self._check_unchanged()
        self._calls.clear()

    def _choose_group(self, route: Route) -> Sequence[Route]:
        """This route and those that run together with it, as many as the budget has room for."""
        turn = self._turn[route]
        # The size of a route's features, over all its calls, is known once the first route has run.
        if self.route_batch == 1 or not self._calls:
            return (route,)
        a_route_mb = sum(call.features_mb for call in self._calls)
        left_mb = self.memory_budget_mb - self._kept_mb()
        size = max(1, min(self.route_batch, int(left_mb / a_route_mb)))
        return self.routes[turn : turn + size]

    def _forward(self, images: Tensor) -> Levels:
        """Replaces the backbone's ``forward``."""
        call = self._call(images)
        route = self.backbone.route
        leaf = self._tree.path(route)[-1]
        if leaf not in call.ready:
            self._run(call, self._group if route in self._group else (route,))
        levels = call.ready[leaf]
        if self._turn[route] >= self._last_use[leaf]:
            del call.ready[leaf]
        call.features_mb = _size_mb(levels)
        # Changes of inference tensors cannot be detected, so the model gets copies.
        levels = tuple(level.clone() if level.is_inference() else level for level in levels)
        self._handed_out += [(level, _version(level)) for level in levels]
        return self.backbone.leave(levels)

    def _check_unchanged(self) -> None:
        """Refuse a model that overwrites features, which other routes share."""
        changed = any(_version(level) != version for level, version in self._handed_out)
        if changed and self.memory_budget_mb > 0:
            raise UserError(
                'the neck or head changes its input features in place, which routes share: '
                'use an operation that is not in place (e.g. ReLU(inplace=False)), or share nothing: memory_budget_mb=0'
            )
        self._handed_out.clear()

    def _call(self, images: Tensor) -> '_Call':
        """The data of this call, within the pass of one route."""
        index = self._next_call
        self._next_call += 1
        if index == len(self._calls):
            self._calls.append(_Call(images))
        elif not self._calls[index].has(images):
            self._calls[index] = _Call(images)
        return self._calls[index]

    def _run(self, call: '_Call', group: Sequence[Route]) -> None:
        """Compute the features of some routes from kept states, and keep the states that others start from."""
        turn = max(self._turn[route] for route in group)
        frontier: Frontier = {}
        for route in group:
            path = self._tree.path(route)
            known = max((index for index, node in enumerate(path) if node in call.states), default=-1)
            node = path[known + 1]
            if node not in frontier:
                frontier[node] = call.states[path[known]] if known >= 0 else self._start(call, node)
        for node in [node for node in call.states if self._last_use[node] <= turn]:
            del call.states[node]
        wanted = {node for route in group for node in self._tree.path(route)}
        visit = walk if len(group) == 1 else walk_together
        for node, state in visit(self.backbone, frontier, wanted):
            if not node.children:
                call.ready[node] = state.levels
            elif self._last_use[node] > turn:
                self._keep(call, node, state)

    def _start(self, call: '_Call', node: Node) -> State:
        return self.backbone.start(call.images, node.steps[0].anchor)

    def _keep(self, call: '_Call', node: Node, state: State) -> None:
        call.states[node] = state
        kept_mb = self._kept_mb()
        if kept_mb > self.memory_budget_mb:
            del call.states[node]
        else:
            self.peak_memory_mb = max(self.peak_memory_mb, kept_mb)

    def _kept_mb(self) -> float:
        return _size_mb([tensor for call in self._calls for tensor in call.tensors()])


@dataclass(eq=False)
class _Call:
    """The data of one call of the backbone.

    Attributes:
        states: by inner node, for later routes.
        ready: features by leaf, computed and not fetched yet.
    """

    images: Tensor
    states: dict[Node, State] = field(default_factory=dict)
    ready: dict[Node, Levels] = field(default_factory=dict)
    features_mb: float = 0.0

    def __post_init__(self) -> None:
        self._version = _version(self.images)

    def has(self, images: Tensor) -> bool:
        """Whether ``images`` are those of this call. Waits for the device if they are in another place in memory."""
        mine = self.images
        if (mine.shape, mine.dtype, mine.device) != (images.shape, images.dtype, images.device):
            return False
        if _version(mine) != self._version:
            return False
        return _place(mine) == _place(images) or torch.equal(mine, images)

    def tensors(self) -> Iterator[Tensor]:
        for state in self.states.values():
            yield state.tokens
            yield from (level for level in state.levels if level is not None)
        for levels in self.ready.values():
            yield from levels


def _first_route(node: Node) -> Route:
    """The first route of a node's last branch, or the last one that ends there."""
    if not node.children:
        return node.routes[-1]
    node = node.children[-1]
    while node.children:
        node = node.children[0]
    return node.routes[0]


def _place(tensor: Tensor) -> tuple:
    """Where in memory the values of a tensor are: equal for equal views."""
    return tensor.untyped_storage(), tensor.storage_offset(), tensor.stride()


def _version(tensor: Tensor) -> int | None:
    """The number of changes in place. Inference tensors have no such number."""
    return None if tensor.is_inference() else tensor._version


def _size_mb(tensors: Iterable[Tensor]) -> float:
    """MiB of some tensors; those that share memory count once."""
    return sum(storage.nbytes() for storage in {tensor.untyped_storage() for tensor in tensors}) / 2**20
