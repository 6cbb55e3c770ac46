"""What a route does, step by step: runs of blocks, switches between anchors, and taps that leave the backbone.

A plan is data. The model executes it and the cost table adds it up, so both always describe the same computation.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from mmsnnet.stitching.space import Route, Span, StitchSpace

# The tuning of routes that have none of their own.
SHARED = 'shared'


class Exit(NamedTuple):
    """Where output levels leave: the anchor that gives them their width and their head, and the tuning of the route."""

    anchor: int
    tuning: str = ''


class Layer(NamedTuple):
    """A stitching layer: ``up`` or ``down`` between anchors ``pair`` and ``pair + 1``, after ``k`` small blocks.

    Levels leave through ``out`` where there is a window, whose ``up`` serve several places. ``tuning`` names the one
    route that the layer is for, where a route has layers of its own.
    """

    direction: str
    pair: int
    k: int
    tuning: str = ''


class Run(NamedTuple):
    """Run blocks ``start`` to ``stop`` of an anchor on the tokens, with the weights of a tuning if one is named."""

    anchor: int
    start: int
    stop: int
    tuning: str = ''


class Switch(NamedTuple):
    """Map the tokens into the other anchor's width."""

    layer: Layer


class Tap(NamedTuple):
    """Emit the tokens as output ``levels``, through ``layers`` if they do not have the width of the ``exit`` yet.

    ``stage`` is that of the exit's anchor.
    """

    levels: tuple[int, ...]
    layers: tuple[Layer, ...]
    exit: Exit
    stage: int = 0


Step = Run | Switch | Tap
Plan = tuple[Step, ...]


def make_plan(
    space: StitchSpace, route: Route, out_indices: Sequence[int], own_exit: bool = False, tuning: str = ''
) -> Plan:
    """Steps of a route whose output levels tap the largest anchor after each block of ``out_indices`` (0-based).

    Args:
        own_exit: levels leave at the width of the route's last anchor, not of the largest one.
        tuning: whose weights the route runs on beside those of the stitching layers: ``''`` for the anchors' own,
            ``SHARED`` for those that all routes with a switch share, else the route's own.
    """
    exit_ = Exit(route.spans[-1].anchor if own_exit else len(space.depths) - 1, tuning)
    # Routes that share a tuning share the stitching layers, too, and these are the only ones.
    own_layers = '' if tuning == SHARED else tuning
    steps: list[Step] = []
    for position, span in enumerate(route.spans):
        following = route.spans[position + 1] if position + 1 < len(route.spans) else None
        switch = switch_layer(space, span, following)._replace(tuning=own_layers) if following else None
        levels = _levels_of(space, route.spans[position:], out_indices)
        taps = dict(_taps(space, span.anchor, levels, exit_, own_layers))
        start = span.start
        for block, tap in taps.items():
            steps.append(Run(span.anchor, start, block + 1, tuning))
            start = block + 1
            # A tap through the layer of the next switch comes after that switch, so that the layer runs once.
            if start == span.stop and switch is not None and tap.layers[:1] == (switch,):
                steps += [Switch(switch), tap._replace(layers=tap.layers[1:])]
                switch = None
            else:
                steps.append(tap)
        if start < span.stop:
            steps.append(Run(span.anchor, start, span.stop, tuning))
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
            yield from (step._replace(start=block, stop=block + 1) for block in range(step.start, step.stop))
        else:
            yield step


def switch_layer(space: StitchSpace, source: Span, target: Span) -> Layer:
    """The stitching layer between two spans that follow each other."""
    if source.anchor < target.anchor:
        entries = space.entries[source.anchor]
        return Layer(
            'up', source.anchor, next(e.k for e in entries if (e.stop, e.start) == (source.stop, target.start))
        )
    return Layer('down', target.anchor, target.start)


def layer_places(space: StitchSpace, layer: Layer) -> tuple[tuple[int, int], ...]:
    """The numbers of blocks, of the small and of the large anchor of its pair, behind which a layer connects them.

    Only layers of a window connect several places.
    """
    if space.window and layer.direction == 'up':
        return tuple((stop, start) for stop, start, k in space.entries[layer.pair] if k == layer.k)
    return ((layer.k, space.boundaries[layer.pair][layer.k]),)


def all_layers(space: StitchSpace, own_exits: bool = False, out_indices: Sequence[int] = ()) -> list[Layer]:
    """Every stitching layer of a space: ``up[1..d0]`` and, two way, ``down[1..d0-1]``; of a window, those of entries.

    The last ``up`` only taps: it is for routes that end in the small anchor and leave at the large one's width. So do
    the layers ``out`` of a window, which depend on the ``out_indices`` of levels.
    """
    layers = []
    for pair, depth in enumerate(space.depths[:-1]):
        last = depth if own_exits or space.window else depth + 1
        ks = {entry.k for entry in space.entries[pair]} if space.window else range(1, last)
        layers += [Layer('up', pair, k) for k in sorted(ks)]
        if space.is_two_way:
            layers += [Layer('down', pair, k) for k in range(1, depth)]
    if space.window and out_indices:
        plans = [make_plan(space, route, out_indices, own_exits) for route in space]
        layers += sorted({layer for plan in plans for layer in used_layers(plan) if layer.direction == 'out'})
    return layers


def used_layers(plan: Plan) -> list[Layer]:
    """Stitching layers of a plan, each once."""
    layers: dict[Layer, None] = {}
    for step in plan:
        if isinstance(step, Switch):
            layers[step.layer] = None
        elif isinstance(step, Tap):
            layers |= dict.fromkeys(step.layers)
    return list(layers)


def tapped_block(space: StitchSpace, anchor: int, out_index: int) -> int:
    """The block of ``anchor`` that stands for block ``out_index`` of the largest anchor."""
    block = out_index
    for boundaries in reversed(space.boundaries[anchor:]):
        block = _block_of_small(boundaries, block)
    return block


def _block_of_small(boundaries: Sequence[int], block: int) -> int:
    """The block of a pair's small anchor that stands for ``block`` of the large one."""
    return max(k for k in range(len(boundaries) - 1) if boundaries[k] <= block)


def _levels_of(space: StitchSpace, spans: Sequence[Span], out_indices: Sequence[int]) -> dict[int, list[int]]:
    """For blocks of the first of some spans, the output levels that leave after them.

    Spans of a sliding window may overlap: a level then leaves from the last that has it. They may skip blocks, too:
    their level leaves before the gap.
    """
    levels_of: dict[int, list[int]] = {}
    for level, out_index in enumerate(out_indices):
        blocks = [tapped_block(space, span.anchor, out_index) for span in spans]
        first, *later = (span.start <= block < span.stop for block, span in zip(blocks, spans, strict=True))
        skipped = len(spans) > 1 and blocks[0] >= spans[0].stop and blocks[1] < spans[1].start
        if skipped or (first and not any(later)):
            levels_of.setdefault(min(blocks[0], spans[0].stop - 1), []).append(level)
    return levels_of


def _taps(
    space: StitchSpace, anchor: int, levels_of: Mapping[int, Sequence[int]], exit_: Exit, tuning: str
) -> Iterator[tuple[int, Tap]]:
    """(block, tap) of output levels on one anchor, by rising block; levels of one block share one tap."""
    for block, levels in sorted(levels_of.items()):
        layers = (layer._replace(tuning=tuning) for layer in _to_exit(space, anchor, block, exit_.anchor))
        # Stages end together, so this is the exit's stage, too.
        yield block, Tap(tuple(levels), tuple(layers), exit_, space.stage_of(anchor, block))


def _to_exit(space: StitchSpace, anchor: int, block: int, exit_anchor: int) -> Iterator[Layer]:
    """Layers that bring ``anchor``'s tokens after a block to the width of another anchor.

    They lead to the features that the other anchor has after the block that stands for this one.
    """
    for pair in range(anchor, exit_anchor):
        yield Layer('out' if space.window else 'up', pair, block + 1)
        block = space.boundaries[pair][block + 1] - 1
    for pair in reversed(range(exit_anchor, anchor)):
        block = _block_of_small(space.boundaries[pair], block)
        yield Layer('down', pair, block + 1)
