"""Which route to train at an iteration. A sampler is a pure function of (seed, iteration): every rank draws the same
route, and a resumed run goes on as if it had never stopped."""

from collections.abc import Sequence
from random import Random


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
        # A string seeds through SHA-512: the same on every platform and process, and neighbours are unrelated.
        random = Random(f'{self.seed}:{iteration}')
        return random.choice(random.choice(self.groups))


class ResourceConstrainedSampler(UniformSampler):
    """First a cost group, then a route inside it, each uniformly (SN-Netv2, section 3.2).

    Args:
        gflops: cost of each route, by id.
        step_gflops: width of a cost group; published are 10 for dense prediction at 512x512, 1 for ImageNet.
        seed: of the draw.
    """

    def __init__(self, gflops: Sequence[float], step_gflops: float = 10, seed: int = 0) -> None:
        super().__init__(gflops, seed)
        if not step_gflops > 0:
            raise ValueError(f'step_gflops must be positive, got {step_gflops}')
        self.groups = group_by_cost(gflops, step_gflops)


def group_by_cost(costs: Sequence[float], step: float) -> list[list[int]]:
    """Ids by rising cost, a new group wherever a cost is more than ``step`` above the first of the current group."""
    groups: list[list[int]] = []
    for id_ in sorted(range(len(costs)), key=costs.__getitem__):
        if groups and costs[id_] - costs[groups[-1][0]] <= step:
            groups[-1].append(id_)
        else:
            groups.append([id_])
    return groups
