"""How much memory a training step takes, predicted from shapes alone: it needs neither a GPU nor that memory."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import torch
from mmengine.structures import BaseDataElement
from torch import Tensor, nn
from torch.func import functional_call
from torch.optim import Optimizer

from mmsnnet.evaluation.precision import mixed_precision
from mmsnnet.evaluation.profiling.peak_memory import CountedStorages
from mmsnnet.evaluation.profiling.valueless import without_values
from mmsnnet.models import StitchedViT, find_backbone
from mmsnnet.models.blank_batch import blank_batch
from mmsnnet.models.compilation import uncompiled
from mmsnnet.stitching import Route, Span

# Assigners process objects one by one, which is slow. The number of sampled regions is the maximum anyway.
BOXES_PER_SIDE = 2


@dataclass(frozen=True)
class TrainingSetting:
    """What a training step runs on.

    Attributes:
        input_shape: (height, width) of the images.
        batch_size: images a step, on one device.
        dtype: one of ``DTYPES``; mixed precision unless float32.
        device_type: ``'cpu'`` or ``'cuda'``: whose operators and mixed precision. CUDA's need a CUDA device.
        accumulates: whether gradients of earlier batches are there when a batch begins.
    """

    input_shape: tuple[int, int]
    batch_size: int
    dtype: str = 'float32'
    device_type: str = 'cpu'
    accumulates: bool = False

    def __str__(self) -> str:
        return f'{self.batch_size} images of {self.input_shape[0]}x{self.input_shape[1]}'

    def autocast(self) -> AbstractContextManager:
        """The precision of a forward pass."""
        return mixed_precision(self.dtype, torch.device(self.device_type))


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes that training one route takes on one device.

    Attributes:
        weights: parameters and buffers of the whole model.
        gradients: of the parameters that the route uses.
        optimizer_state: once every parameter that trains has been used.
        activations: the batch, and what the forward pass leaves for the backward pass.
        step: the most that a step takes at once, beside weights and optimizer state: activations, temporaries, and the
            gradients that are there by then.
        buckets: what ``DistributedDataParallel`` takes to average gradients.
    """

    weights: int
    gradients: int
    optimizer_state: int
    activations: int
    step: int
    buckets: int

    def total(self, distributed: bool) -> int:
        """The peak, in one of several processes or in a single one."""
        return self.weights + self.optimizer_state + self.step + (self.buckets if distributed else 0)

    def describe(self, distributed: bool) -> str:
        """In GiB."""
        parts = ('weights', 'gradients', 'optimizer_state', 'activations')
        gib = {name.replace('_', ' '): getattr(self, name) / 2**30 for name in parts}
        listed = ', '.join(f'{name} {value:.1f}' for name, value in gib.items())
        return f'{self.total(distributed) / 2**30:.1f} GiB ({listed})'


class TrainingStep(nn.Module):
    """A model's loss and its gradients, as a module: ``functional_call`` can then run it on other tensors.

    Args:
        model: an MMEngine model, unwrapped.
        context: precision of the forward pass.
        after_forward: called between the passes.
    """

    def __init__(
        self,
        model: nn.Module,
        context: Callable[[], AbstractContextManager],
        after_forward: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__()
        self.model = model
        self.context = context
        self.after_forward = after_forward

    def forward(self, images: Tensor, samples: list[BaseDataElement]) -> dict[str, Tensor]:
        """Gradients, by name, of the parameters that the loss of images (B, 3, H, W) depends on."""
        with self.context():
            loss, _ = self.model.parse_losses(self.model(images, samples, mode='loss'))
        self.after_forward()
        trained = {name: parameter for name, parameter in self.model.named_parameters() if parameter.requires_grad}
        gradients = torch.autograd.grad(loss, trained.values(), allow_unused=True)
        return {name: gradient for name, gradient in zip(trained, gradients, strict=True) if gradient is not None}


def predict_training_memory(model: nn.Module, optimizer: Optimizer, setting: TrainingSetting) -> TrainingMemory:
    """Memory of training the route that is set.

    A detector samples the maximum number of regions, and pixels that the loss ignores count.

    Args:
        model: a segmentor or detector of MMEngine's, unwrapped, on any device, also ``'meta'``. It is not changed.
        optimizer: of its parameters.
    """
    counted, activations = CountedStorages(), []
    step = TrainingStep(model, setting.autocast, lambda: activations.append(counted.current))
    with training_mode(model), uncompiled(model), without_values():
        tensors = _valueless_copies(model, setting.device_type)
        with counted:
            batch = blank_batch(
                model, setting.batch_size, setting.input_shape, setting.device_type, boxes_per_side=BOXES_PER_SIDE
            )
            gradients = functional_call(step, {f'model.{name}': tensor for name, tensor in tensors.items()}, batch)
        trained = [tensor for tensor in tensors.values() if tensor.requires_grad]
        return TrainingMemory(
            weights=num_bytes(tensors.values()),
            gradients=num_bytes(gradients.values()),
            optimizer_state=_state_bytes(optimizer, model, tensors),
            activations=activations[0],
            # Earlier batches may have used every parameter.
            step=counted.peak + (num_bytes(trained) if setting.accumulates else 0),
            buckets=num_bytes(trained),
        )


def predict_extremes(model: nn.Module, optimizer: Optimizer, setting: TrainingSetting) -> dict[str, TrainingMemory]:
    """Memory of training the cheapest, the median and the most expensive route; of a model without routes, its own."""
    if not any(isinstance(module, StitchedViT) for module in model.modules()):
        return {'whole model': predict_training_memory(model, optimizer, setting)}
    backbone = find_backbone(model)
    routes, before, predicted = routes_by_memory(backbone, backbone.trainable_routes), backbone.route, {}
    for rank, route in (('cheapest', routes[0]), ('median', routes[len(routes) // 2]), ('most expensive', routes[-1])):
        backbone.set_route(route)
        predicted[f'{rank} {route.name}'] = predict_training_memory(model, optimizer, setting)
    backbone.set_route(before)
    return predicted


def routes_by_memory(backbone: StitchedViT, routes: Iterable[Route]) -> list[Route]:
    """Some routes by rising memory for the backward pass: each block keeps tokens of its anchor's width."""

    def size(span: Span) -> float:
        anchor = backbone.anchors[span.anchor]
        counts = range(span.start + 1, span.stop + 1)
        return sum(anchor.width_after(count) / math.prod(anchor.stride_after(count)) for count in counts)

    return sorted(routes, key=lambda route: sum(map(size, route.spans)))


def state_tensors(optimizer: Optimizer) -> Iterator[Tensor]:
    """What an optimizer keeps from step to step."""
    for state in optimizer.state.values():
        yield from (value for value in state.values() if isinstance(value, Tensor))


def num_bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _valueless_copies(model: nn.Module, device_type: str) -> dict[str, Tensor]:
    """Parameters and buffers without values, of the same shapes and types."""
    copies: dict[str, Tensor] = {}
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        copies[name] = torch.empty(tensor.shape, dtype=tensor.dtype, device=device_type)
        if isinstance(tensor, nn.Parameter):
            copies[name] = nn.Parameter(copies[name], tensor.requires_grad)
    return copies


def _state_bytes(optimizer: Optimizer, model: nn.Module, tensors: dict[str, Tensor]) -> int:
    """Bytes that an optimizer keeps once every parameter has had a gradient, measured on copies."""
    copy_of = {parameter: tensors[name] for name, parameter in model.named_parameters()}
    groups = [{**group, 'params': [copy_of[p] for p in group['params']]} for group in optimizer.param_groups]
    copied = type(optimizer)(groups)
    for tensor in copy_of.values():
        tensor.grad = torch.empty_like(tensor) if tensor.requires_grad else None
    copied.step()
    return num_bytes(state_tensors(copied))


@contextmanager
def training_mode(model: nn.Module) -> Iterator[None]:
    """Put a model into training mode; restore it afterwards."""
    was_training = model.training
    model.train()
    try:
        yield
    finally:
        model.train(was_training)
