"""Which route to train at an iteration. A draw is a pure function of seed and iteration, and for
samplers that use losses, of the losses reported to them. So every rank draws the same route, and a resumed run draws as
if it had never stopped. Ids are places among the routes that train, by rising id: where all train, they are the ids."""

from collections.abc import Sequence
from random import Random

from mmsnnet.errors import UserError
from mmsnnet.settings import check_int, check_number, check_word
from mmsnnet.stitching.records import COSTS, Record


class UniformSampler:
    """Every route equally often.

    Args:
        gflops: cost of each route, by id.
        seed: of the draw.
    """

    def __init__(self, gflops: Sequence[float], seed: int = 0) -> None:
        self.seed = seed
        self.groups: list[list[int]] = [list(range(len(gflops)))]

    def __call__(self, iteration: int) -> int:
        """Route id to train at ``iteration``."""
        random = self._random(iteration)
        return random.choice(random.choice(self.groups))

    def _random(self, iteration: int) -> Random:
        # A string seeds through SHA-512: the same on every platform and process, and neighbours are unrelated.
        return Random(f'{self.seed}:{iteration}')


class ResourceConstrainedSampler(UniformSampler):
    """First a cost group, then a route inside it, each uniformly (SN-Netv2, section 3.2).

    Args:
        gflops: cost of each route, by id.
        step_gflops: width of a cost group; published are 10 for dense prediction at 512x512, 1 for ImageNet.
        seed: of the draw.
    """

    def __init__(self, gflops: Sequence[float], step_gflops: float = 10, seed: int = 0) -> None:
        super().__init__(gflops, seed)
        self.groups = group_by_cost(gflops, check_number('step_gflops', step_gflops, above=0))


class CostIntervalSampler(UniformSampler):
    """First an interval of a measured cost, then a route that costs as much, each uniformly.

    ``ResourceConstrainedSampler`` over what routes take on a device.

    Args:
        gflops: cost of each route, by id.
        records: one of each route, in any order.
        cost: the field of the records to go by.
        num_intervals: equal parts of the range of costs; those that no route falls into are left out.
        seed: of the draw.

    Raises:
        ValueError: a route without a record, or a record without the cost.
    """

    def __init__(
        self,
        gflops: Sequence[float],
        records: Sequence[Record],
        cost: str = 'latency_ms',
        num_intervals: int = 10,
        seed: int = 0,
    ) -> None:
        super().__init__(gflops, seed)
        check_word('cost', cost, COSTS)
        check_int('num_intervals', num_intervals, 1)
        costs = {record.id: getattr(record, cost) for record in records}
        missing = [id_ for id_ in range(len(gflops)) if costs.get(id_) is None]
        if missing:
            raise UserError(
                f'no {cost} of {len(missing)} of {len(gflops)} routes that train, the first is number {missing[0]} of '
                'them, from 0: the records need one of every route, as tools/benchmark.py --routes all --latency '
                'writes them'
            )
        self.groups = group_by_interval([costs[id_] for id_ in range(len(gflops))], num_intervals)


class SandwichSampler(UniformSampler):
    """In turn the cheapest route, the most expensive route, and any route.

    The sandwich rule of US-Nets (Yu and Huang 2019).

    With ``accumulative_counts=3`` and a draw for each batch, every optimizer step has all three.
    """

    def __init__(self, gflops: Sequence[float], seed: int = 0) -> None:
        super().__init__(gflops, seed)
        ids = range(len(gflops))
        self._ends = min(ids, key=gflops.__getitem__), max(ids, key=gflops.__getitem__)

    def __call__(self, iteration: int) -> int:
        turn = iteration % 3
        return self._ends[turn] if turn < 2 else super().__call__(iteration)


class LossSampler(UniformSampler):
    """Routes by how large their recent loss is: those that lag behind train more often.

    Args:
        gflops: cost of each route, by id.
        sharpness: a route is drawn in proportion to its loss to this power; 0 draws uniformly.
        momentum: share of the former mean that a new loss leaves.
        seed: of the draw.

    Attributes:
        losses: moving mean of each route's loss; None where it has not trained yet: drawn as the largest one is.
    """

    def __init__(self, gflops: Sequence[float], sharpness: float = 2.0, momentum: float = 0.9, seed: int = 0) -> None:
        super().__init__(gflops, seed)
        check_number('sharpness', sharpness, low=0)
        if check_number('momentum', momentum, low=0) >= 1:
            raise UserError(f'momentum must be below 1, got {momentum}')
        self.sharpness = sharpness
        self.momentum = momentum
        self.losses: list[float | None] = [None] * len(gflops)

    def __call__(self, iteration: int) -> int:
        largest = max((loss for loss in self.losses if loss is not None), default=1.0)
        weights = [max(largest if loss is None else loss, 0) ** self.sharpness for loss in self.losses]
        return self._random(iteration).choices(range(len(weights)), weights if any(weights) else None)[0]

    def update(self, route_id: int, loss: float) -> None:
        """Note the loss that a route has had."""
        former = self.losses[route_id]
        self.losses[route_id] = loss if former is None else self.momentum * former + (1 - self.momentum) * loss

    def state_dict(self) -> dict:
        """State with which a resumed run draws the same routes."""
        return {'losses': list(self.losses)}

    def load_state_dict(self, state: dict) -> None:
        """Continue from a ``state_dict``."""
        self.losses = list(state['losses'])


def group_by_cost(costs: Sequence[float], step: float) -> list[list[int]]:
    """Ids by rising cost, a new group wherever a cost is more than ``step`` above the first of the current group."""
    groups: list[list[int]] = []
    for id_ in sorted(range(len(costs)), key=costs.__getitem__):
        if groups and costs[id_] - costs[groups[-1][0]] <= step:
            groups[-1].append(id_)
        else:
            groups.append([id_])
    return groups


def group_by_interval(
    costs: Sequence[float], num_intervals: int, limits: tuple[float, float] | None = None
) -> list[list[int]]:
    """Ids grouped by equal parts of the cost range, by rising cost. Empty parts are left out.

    Args:
        limits: of the range, by default those of the costs. What is beyond them is in the first or last part.
    """
    low, high = limits or (min(costs), max(costs))
    groups: list[list[int]] = [[] for _ in range(num_intervals)]
    for id_, cost in enumerate(costs):
        part = int((cost - low) / (high - low) * num_intervals) if high > low else 0
        groups[min(max(part, 0), num_intervals - 1)].append(id_)
    return [group for group in groups if group]
