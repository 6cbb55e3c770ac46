"""Cost of routes as the sum of their parts' costs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mmsnnet.stitching.plan import Layer, Plan, Run, Switch, Tap, make_plan
from mmsnnet.stitching.space import StitchSpace

Part = str | tuple[str, int] | tuple[int, int] | Layer


@dataclass(frozen=True)
class Cost:
    """FLOPs of one image by fvcore's convention (one multiply-add is one), and parameters."""

    flops: int = 0
    params: int = 0

    def __add__(self, other: 'Cost') -> 'Cost':
        return Cost(self.flops + other.flops, self.params + other.params)

    @property
    def gflops(self) -> float:
        return self.flops / 1e9

    @property
    def params_m(self) -> float:
        return self.params / 1e6


def plan_parts(plan: Plan, used_levels: Sequence[int]) -> Iterator[Part]:
    """Parts of a plan that the heads' results depend on, as fvcore counts them.

    Parts are ``('embed', anchor)``, ``('position', anchor)``, blocks ``(anchor, block)``, stitching layers, and
    ``'rest'`` for all else. A tap that no head reads does not count, nor does anything after the last tap that is read.
    """
    last = max(
        index for index, step in enumerate(plan) if isinstance(step, Tap) and set(step.levels) & set(used_levels)
    )
    yield ('embed', next(step.anchor for step in plan if isinstance(step, Run)))
    for step in plan[: last + 1]:
        if isinstance(step, Run):
            yield ('position', step.anchor)
            yield from ((step.anchor, block) for block in range(step.start, step.stop))
        elif isinstance(step, Switch):
            yield step.layer
        elif set(step.levels) & set(used_levels):
            yield from step.layers
    yield 'rest'


class CostTable(Sequence[Cost]):
    """Cost of every route of a space, indexed by route id.

    Args:
        space: the routes.
        out_indices: blocks of the largest anchor whose outputs leave the backbone.
        parts: cost of each part that some route uses.
        used_levels: output levels that the heads read at inference; default all.

    Attributes:
        parts: as given.
    """

    def __init__(
        self,
        space: StitchSpace,
        out_indices: Sequence[int],
        parts: dict[Part, Cost],
        used_levels: Sequence[int] | None = None,
    ) -> None:
        self.parts = parts
        used_levels = range(len(out_indices)) if used_levels is None else used_levels
        self._costs = tuple(
            self._sum(plan_parts(make_plan(space, route, out_indices), used_levels), parts) for route in space
        )

    def __len__(self) -> int:
        return len(self._costs)

    def __getitem__(self, route_id: int) -> Cost:
        return self._costs[route_id]

    @property
    def gflops(self) -> list[float]:
        """GFLOPs by route id."""
        return [cost.gflops for cost in self._costs]

    @staticmethod
    def _sum(used: Iterator[Part], parts: dict[Part, Cost]) -> Cost:
        # Spans of one anchor share its positions, which exist once. No other part of a plan runs twice.
        return sum((parts[part] for part in set(used)), Cost())
