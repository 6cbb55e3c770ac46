"""Cost of routes as the sum of their parts' costs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mmsnnet.stitching.plan import Layer, Plan, Run, Switch, Tap

Part = tuple[str, int] | tuple[str, int, int] | tuple[int, int] | Layer


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

    Parts are ``('embed', anchor)``, ``('position', anchor)``, blocks ``(anchor, block)``, stitching layers,
    ``('exit', anchor, stage)`` for an exit's norm and pooling, and ``('rest', anchor)`` for all that follows an exit. A
    tap that no head reads does not count, nor does anything after the last tap that is read. Blocks and layers cost the
    same with any tuning: export folds adapters into the weights.
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
            yield step.layer._replace(tuning='')
        elif set(step.levels) & set(used_levels):
            yield from (layer._replace(tuning='') for layer in step.layers)
            yield ('exit', step.exit.anchor, step.stage)
    yield ('rest', plan[-1].exit.anchor)


class CostTable(Sequence[Cost]):
    """Cost of every route of a space, indexed by route id.

    Args:
        plans: of the routes, by id.
        parts: cost of each part that some route uses.
        used_levels: output levels that the heads read at inference, by the anchor of their exit.

    Attributes:
        parts: as given.
    """

    def __init__(
        self,
        plans: Sequence[Plan],
        parts: dict[Part, Cost],
        used_levels: Mapping[int, Sequence[int]],
    ) -> None:
        self.parts = parts
        self._costs = tuple(self._sum(plan_parts(plan, used_levels[plan[-1].exit.anchor]), parts) for plan in plans)

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
        used = list(used)
        # What runs more than once, such as the norm that each level passes, exists once.
        return Cost(sum(parts[part].flops for part in used), sum(parts[part].params for part in set(used)))
