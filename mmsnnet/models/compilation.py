"""Compile a backbone part by part: all routes are made of the same few kinds of compiled parts.

Compiling whole routes would give another graph for each route.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn

from mmsnnet.errors import UserError

_KINDS_OF_PARTS = 128
_MODES_WITH_CUDA_GRAPHS = ('reduce-overhead', 'max-autotune')


def compile_parts(backbone: nn.Module, options: Mapping[str, Any] | bool = True) -> None:
    """Compile every block and stitching layer in place. Each compiles when it first runs.

    Args:
        backbone: a ``AnchorBackbone``.
        options: True, or arguments of ``torch.compile``; False leaves all as written.

    Raises:
        ValueError: options that use CUDA graphs.
    """
    if options is False:
        return
    arguments = {} if options is True else options
    _check_no_cuda_graphs(arguments)
    # Only now: it takes long to import.
    import torch._dynamo

    # PyTorch runs a code as it is after so many kinds of it. All blocks of a family share theirs, and differ by stage,
    # width, shift of windows and rate of drop path.
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, _KINDS_OF_PARTS)
    parts = [block for anchor in backbone.anchors for block in anchor.blocks]
    parts += [layer for layers in (*backbone.up, *backbone.down, *backbone.out) for layer in layers.values()]
    parts += [part for tuning in getattr(backbone, 'tunings', {}).values() for part in tuning.parts()]
    for part in parts:
        part.compile(**arguments)


def _check_no_cuda_graphs(arguments: Mapping[str, Any]) -> None:
    """Raise a ``ValueError`` where parts would run as CUDA graphs.

    A CUDA graph overwrites its last result, but routes and output levels need earlier results. Each sequence of blocks,
    and so each route, would also record its own graph.
    """
    mode, options = arguments.get('mode'), arguments.get('options') or {}
    if mode in _MODES_WITH_CUDA_GRAPHS or arguments.get('backend') == 'cudagraphs' or options.get('triton.cudagraphs'):
        raise UserError(
            f'compile_blocks cannot be {dict(arguments)}: CUDA graphs overwrite features that routes share; leave out '
            "what asks for them, or take mode='max-autotune-no-cudagraphs'"
        )


@contextmanager
def uncompiled(model: nn.Module) -> Iterator[None]:
    """Let modules run as written, for tracers, which cannot look into compiled ones."""
    calls = {module: module._compiled_call_impl for module in model.modules()}
    compiled = {module: call for module, call in calls.items() if call is not None}
    for module in compiled:
        module._compiled_call_impl = None
    try:
        yield
    finally:
        for module, call in compiled.items():
            module._compiled_call_impl = call
