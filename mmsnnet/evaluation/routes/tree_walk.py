"""Two ways to compute all nodes of a prefix tree: one by one, or in one batch those that enter the same block."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import torch

from mmsnnet.models import StitchedViT
from mmsnnet.models.backbone import State
from mmsnnet.stitching import Run
from mmsnnet.stitching.plan import Step
from mmsnnet.stitching.prefix_tree import Node

Frontier = dict[Node, State]


def walk(backbone: StitchedViT, frontier: Frontier, wanted: Collection[Node]) -> Iterator[tuple[Node, State]]:
    """Yield every wanted node with its state, depth first.

    Args:
        frontier: nodes to begin with, and the states from which their steps lead to them.
        wanted: the nodes to visit.
    """
    for node, before in frontier.items():
        state = backbone.advance(before, node.steps)
        yield node, state
        yield from walk(backbone, {child: state for child in node.children if child in wanted}, wanted)


def walk_together(backbone: StitchedViT, frontier: Frontier, wanted: Collection[Node]) -> Iterator[tuple[Node, State]]:
    """Like ``walk``, but in the order of the blocks: tokens that enter the same blocks run as one batch."""
    tasks = [_Task(node, list(node.steps), state) for node, state in frontier.items()]
    while tasks:
        # The task that is behind all others goes first, so that no task arrives at a block too late to join it.
        next_step = min(tasks, key=lambda task: task.position(backbone)).next_step(backbone)
        together = [task for task in tasks if task.next_step(backbone) == next_step]
        _advance(backbone, together, next_step)
        for task in together:
            if not task.steps:
                tasks.remove(task)
                yield task.node, task.state
                children = (child for child in task.node.children if child in wanted)
                tasks += [_Task(child, list(child.steps), task.state, task.fraction) for child in children]


@dataclass(eq=False)
class _Task:
    """A node that is being computed."""

    node: Node
    steps: list[Step]
    state: State
    # Share of its anchor's blocks that has run: comparable between anchors.
    fraction: float = 0.0

    def position(self, backbone: StitchedViT) -> tuple[float, bool]:
        """Sort key: switches and taps at a place come before the blocks that follow it."""
        step = self.steps[0]
        if isinstance(step, Run):
            return step.start / backbone.anchors[step.anchor].depth, True
        return self.fraction, False

    def next_step(self, backbone: StitchedViT) -> Step:
        """The next step, a run of blocks only as far as the next place where routes may join or part."""
        step = self.steps[0]
        if not isinstance(step, Run):
            return step
        return step._replace(stop=min(step.stop, _next_boundary(backbone, step.anchor, step.start)))

    def done(self, step: Step, backbone: StitchedViT) -> None:
        """Remove a step that has been computed."""
        planned = self.steps.pop(0)
        if isinstance(step, Run):
            self.fraction = step.stop / backbone.anchors[step.anchor].depth
            if step.stop < planned.stop:
                self.steps.insert(0, planned._replace(start=step.stop))


def _advance(backbone: StitchedViT, tasks: list[_Task], step: Step) -> None:
    """Let all tasks take one step as one batch."""
    tokens = torch.cat([task.state.tokens for task in tasks])
    after = backbone.advance(State(tokens, tasks[0].state.grid, backbone.no_levels), (step,))
    levels_of = zip(
        *([None] * len(tasks) if level is None else level.chunk(len(tasks)) for level in after.levels),
        strict=True,
    )
    for task, tokens, levels in zip(tasks, after.tokens.chunk(len(tasks)), levels_of, strict=True):
        known = (new if new is not None else old for new, old in zip(levels, task.state.levels, strict=True))
        task.state = State(tokens, after.grid, tuple(known))
        task.done(step, backbone)


def _next_boundary(backbone: StitchedViT, anchor: int, block: int) -> int:
    """The first number of blocks above ``block`` after which routes may leave or enter an anchor, or all of them."""
    space = backbone.space
    places = {space.depths[anchor]}
    if anchor > 0:
        places |= {*space.boundaries[anchor - 1], *(entry.start for entry in space.entries[anchor - 1])}
    if anchor < len(space.depths) - 1:
        places |= set(range(space.depths[anchor]))
    return min(place for place in places if place > block)
