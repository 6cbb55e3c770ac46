"""The prefix tree of plans: steps that several routes share run once.

Two routes that start alike share all steps until they part. A depth-first walk of the tree keeps the tokens of two or
three nodes at a time and runs each step once. That is 2.7 times less work for the 134 routes of two anchors of depth 12
and 24.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from mmsnnet.stitching.plan import Plan, Run, Step, single_steps
from mmsnnet.stitching.space import Route


@dataclass(eq=False)
class Node:
    """A place where routes part or end.

    Attributes:
        steps: steps from the parent to here; the first one of a path names the anchor that embeds the images.
        children: in the order in which to visit them.
        routes: that end here; several only if they differ only after the last output level.
    """

    steps: Plan
    children: 'list[Node]' = field(default_factory=list)
    routes: list[Route] = field(default_factory=list)

    def walk(self) -> 'Iterator[Node]':
        """This node and all below it, depth first."""
        yield self
        for child in self.children:
            yield from child.walk()


class PrefixTree:
    """Prefix tree of the plans of some routes.

    Args:
        plans: of the routes.
        last: the route to visit last; by default the order is free.

    Attributes:
        root: before any step; its children start with one anchor each.
        routes: in the order of the walk, depth first.
    """

    def __init__(self, plans: Mapping[Route, Plan], last: Route | None = None) -> None:
        paths = {route: list(single_steps(plan)) for route, plan in plans.items()}
        self.root = Node((), _grow(paths, 0, last))
        self._paths = dict(_paths(self.root, ()))
        self.routes = sorted(self._paths, key=lambda route: route == last)

    def path(self, route: Route) -> tuple[Node, ...]:
        """Nodes from below the root to where a route ends."""
        return self._paths[route]

    def steps(self) -> Iterator[Step]:
        """Every step of the tree once: what evaluating all routes together computes."""
        for node in self.root.walk():
            yield from node.steps


def _grow(paths: dict[Route, list[Step]], depth: int, last: Route | None) -> list[Node]:
    """Children below a place that all ``paths`` reach after ``depth`` steps."""
    groups: dict[Step, dict[Route, list[Step]]] = {}
    for route, path in paths.items():
        groups.setdefault(path[depth], {})[route] = path
    # The largest branch comes last, so that few states are kept while it runs; the branch of ``last`` comes after all.
    ordered = sorted(groups.values(), key=lambda group: (last in group, len(group)))
    return [_branch(group, depth, last) for group in ordered]


def _branch(paths: dict[Route, list[Step]], depth: int, last: Route | None) -> Node:
    """The node where ``paths``, which share their next step, part or end."""
    first, *others = paths.values()
    stop = depth
    while stop < len(first) and all(path[stop : stop + 1] == first[stop : stop + 1] for path in others):
        stop += 1
    steps = tuple(_joined(first[depth:stop]))
    # Every plan ends with the tap of its last level, so no plan is the beginning of another.
    if stop == len(first):
        return Node(steps, routes=list(paths))
    return Node(steps, _grow(paths, stop, last))


def _joined(steps: Sequence[Step]) -> Iterator[Step]:
    """Steps with blocks that follow each other in one ``Run``."""
    run: Run | None = None
    for step in steps:
        if isinstance(step, Run):
            run = step._replace(start=run.start if run else step.start)
            continue
        if run:
            yield run
            run = None
        yield step
    if run:
        yield run


def _paths(node: Node, above: tuple[Node, ...]) -> Iterator[tuple[Route, tuple[Node, ...]]]:
    for child in node.children:
        path = (*above, child)
        yield from ((route, path) for route in child.routes)
        yield from _paths(child, path)
