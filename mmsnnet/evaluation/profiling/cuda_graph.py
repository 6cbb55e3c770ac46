"""A computation as one CUDA graph: replayed without launching each kernel."""

from collections.abc import Callable
from typing import Any

import torch

from mmsnnet.errors import UserError


def captured(run: Callable[[], Any], device: torch.device, warmup_passes: int) -> Callable[[], None]:
    """A replay of all that ``run`` computes on a CUDA device, from the same inputs into the same memory.

    Args:
        run: called without gradients; it must read nothing back from the device.
        warmup_passes: calls before the capture, in which libraries initialise.

    Raises:
        UserError: ``run`` reads something back, as two-stage detectors read regions.
    """
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.device(device):
        _warm_up(run, device, warmup_passes)
        try:
            with torch.cuda.graph(graph):
                run()
        except RuntimeError as error:
            raise UserError(
                f'this model cannot run as a CUDA graph, leave out cuda_graph: {str(error).splitlines()[0]}'
            ) from error
        # The first replay uploads the graph.
        graph.replay()
    return graph.replay


def _warm_up(run: Callable[[], Any], device: torch.device, passes: int) -> None:
    """On a stream of its own, as a capture is."""
    stream, current = torch.cuda.Stream(device), torch.cuda.current_stream(device)
    stream.wait_stream(current)
    with torch.cuda.stream(stream):
        for _ in range(passes):
            run()
    current.wait_stream(stream)
