"""What a route does, step by step: runs of blocks, switches between anchors, and taps that leave the backbone.

A plan is data. The model executes it and the cost table adds it up, so both always describe the same computation.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from mmsnnet.stitching.space import Route, Span, StitchSpace


class Layer(NamedTuple):
    """A stitching layer: ``up`` or ``down`` between anchors ``pair`` and ``pair + 1``, after ``k`` small blocks."""

    direction: str
    pair: int
    k: int


class Run(NamedTuple):
    """Run blocks ``start`` to ``stop`` of an anchor on the tokens."""

    anchor: int
    start: int
    stop: int


class Switch(NamedTuple):
    """Map the tokens into the other anchor's width."""

    layer: Layer


class Tap(NamedTuple):
    """Emit the tokens as output ``levels``, through ``layers`` if they do not have the large anchor's width yet."""

    levels: tuple[int, ...]
    layers: tuple[Layer, ...]


Step = Run | Switch | Tap
Plan = tuple[Step, ...]


def make_plan(space: StitchSpace, route: Route, out_indices: Sequence[int]) -> Plan:
    """Steps of a route whose output levels tap the largest anchor after each block of ``out_indices`` (0-based)."""
    steps: list[Step] = []
    for position, span in enumerate(route.spans):
        following = route.spans[position + 1] if position + 1 < len(route.spans) else None
        switch = switch_layer(span, following) if following else None
        taps = {block: tap for block, tap in _taps(space, span.anchor, out_indices) if span.start <= block < span.stop}
        start = span.start
        for block, tap in taps.items():
            steps.append(Run(span.anchor, start, block + 1))
            start = block + 1
            # A tap through the layer of the next switch comes after that switch, so that the layer runs once.
            if start == span.stop and switch is not None and tap.layers[:1] == (switch,):
                steps += [Switch(switch), Tap(tap.levels, tap.layers[1:])]
                switch = None
            else:
                steps.append(tap)
        if start < span.stop:
            steps.append(Run(span.anchor, start, span.stop))
        if switch is not None:
            steps.append(Switch(switch))
    # Steps after the last tap do not affect the result.
    while not isinstance(steps[-1], Tap):
        steps.pop()
    return tuple(steps)


def single_steps(plan: Plan) -> Iterator[Step]:
    """A plan's steps with one block a ``Run``."""
    for step in plan:
        if isinstance(step, Run):
            yield from (Run(step.anchor, block, block + 1) for block in range(step.start, step.stop))
        else:
            yield step


def switch_layer(source: Span, target: Span) -> Layer:
    """The stitching layer between two spans that follow each other."""
    if source.anchor < target.anchor:
        return Layer('up', source.anchor, source.stop)
    return Layer('down', target.anchor, target.start)


def all_layers(space: StitchSpace) -> Iterator[Layer]:
    """Every stitching layer of a space: ``up[1..d0]`` (the last only taps) and, two way, ``down[1..d0-1]``."""
    for pair, depth in enumerate(space.depths[:-1]):
        yield from (Layer('up', pair, k) for k in range(1, depth + 1))
        if space.is_two_way:
            yield from (Layer('down', pair, k) for k in range(1, depth))


def tapped_block(space: StitchSpace, anchor: int, out_index: int) -> int:
    """The block of ``anchor`` that stands for block ``out_index`` of the largest anchor."""
    block = out_index
    for b in reversed(space.boundaries[anchor:]):
        block = max(k for k in range(len(b) - 1) if b[k] <= block)
    return block


def _taps(space: StitchSpace, anchor: int, out_indices: Sequence[int]) -> Iterator[tuple[int, Tap]]:
    """(block, tap) of every output level on one anchor, by rising block; levels of one block share one tap."""
    levels_of: dict[int, list[int]] = {}
    for level, out_index in enumerate(out_indices):
        levels_of.setdefault(tapped_block(space, anchor, out_index), []).append(level)
    for block, levels in sorted(levels_of.items()):
        yield block, Tap(tuple(levels), _to_largest(space, anchor, block + 1))


def _to_largest(space: StitchSpace, anchor: int, blocks: int) -> tuple[Layer, ...]:
    """Layers that bring ``anchor``'s tokens after ``blocks`` blocks to the largest anchor's width."""
    layers = []
    for pair in range(anchor, len(space.depths) - 1):
        layers.append(Layer('up', pair, blocks))
        blocks = space.boundaries[pair][blocks]
    return tuple(layers)
