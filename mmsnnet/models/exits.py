"""Exits: through which anchor feature maps left the backbone, and one head for each anchor they may leave through."""

from collections.abc import Iterable, Sequence
from typing import Any

from mmengine.model import BaseModule, ModuleDict, ModuleList
from torch import Tensor, nn

from mmsnnet.errors import UserError
from mmsnnet.models.weights import load_part
from mmsnnet.registry import MODELS, register
from mmsnnet.settings import check_list, is_named
from mmsnnet.stitching import SHARED, Exit
from mmsnnet.stitching.space import last_anchor

# What segmentors and detectors ask of a head, and must not depend on the exit.
_COMMON_ATTRIBUTES = (
    'num_classes', 'align_corners', 'out_channels', 'threshold', 'min_depth', 'max_depth', 'with_bbox', 'with_mask',
    'with_shared_head'
)  # fmt: skip


class ExitMaps(tuple[Tensor | list[Tensor], ...]):
    """Feature maps, or lists of a map and a class token, and the ``exit`` through which they left the backbone."""

    exit: Exit

    def __new__(cls, maps: Iterable[Tensor | list[Tensor]], exit_: Exit) -> 'ExitMaps':
        self = super().__new__(cls, maps)
        self.exit = exit_
        return self

    def __getnewargs__(self) -> tuple[tuple[Tensor | list[Tensor], ...], Exit]:
        """What copies are made of."""
        return tuple(self), self.exit


@register(MODELS)
class PerExit(BaseModule):
    """A neck or head that holds one of its kind for each anchor that a route may end in.

    For a ``StitchedViT`` with ``exits='own'``. It stands for MMSegmentation's decode and auxiliary heads, and for
    MMDetection's necks, RPN and RoI heads. The feature maps say through which exit they left, and what it is asked goes
    to the head of that exit. A neck hands the exit on.

    Args:
        heads: configs, one for each anchor from small to large.
        exact: for a backbone whose anchors are finished models: their heads do not train and stay in evaluation mode,
            and copies of them, which start with their weights, serve routes with a switch.
        own_tunings: names of the routes that have a copy of their own, as the backbone's.
        init_cfg: MMEngine's. Each of ``heads`` may have one. What ``dict(type='Pretrained', checkpoint=PATH,
            prefix='decode_head.')`` names must fit and is loaded last, over what a head's own ``init_weights`` does.
        **common: settings of every head; detectors give ``train_cfg`` and ``test_cfg``.

    Raises:
        ValueError: heads that differ in what a model expects of them, such as their number of classes; a tuning of a
            model that is not exact.
    """

    def __init__(
        self,
        heads: Sequence[dict],
        exact: bool = False,
        own_tunings: Sequence[str] = (),
        init_cfg: dict | None = None,
        **common: Any,
    ) -> None:
        super().__init__(init_cfg)
        heads = check_list('heads', heads, '[dict(type=..., in_channels=384), dict(type=..., in_channels=1024)]')
        if not heads:
            raise UserError('PerExit needs a head for each anchor, got none: give their configs as heads=[...]')
        if own_tunings and not exact:
            raise UserError(f'own_tunings={list(own_tunings)} need exact=True: copies exist beside finished heads')
        if not all(isinstance(name, str) for name in own_tunings):
            raise UserError(f"own_tunings of a PerExit must be names of routes ('s[0:3]-l[6:24]'), got {own_tunings!r}")
        self._heads, self._checkpoints = zip(*map(_split_pretrained, heads), strict=True)
        build = lambda anchor: MODELS.build({**self._heads[anchor], **common})  # noqa: E731
        self.exact = exact
        self.anchors = ModuleList(build(anchor) for anchor in range(len(heads)))
        self.tuned = ModuleDict()
        if exact:
            self.anchors.requires_grad_(False)
            self.tuned.update({str(anchor): build(anchor) for anchor in range(len(heads))})
            self.tuned.update({name: build(last_anchor(name, len(heads))) for name in own_tunings})
        _check_alike(self.anchors)

    def init_weights(self) -> None:
        """Initialise the heads of anchors as their configs say. Copies start from them."""
        super().init_weights()
        for head, checkpoint in zip(self.anchors, self._checkpoints, strict=True):
            if checkpoint:
                load_part(head, type(head).__name__, **checkpoint)
        self.restart_copies()

    @property
    def weight_sources(self) -> list[dict]:
        """For each anchor's head, what names its weights; empty: they are random."""
        return [
            checkpoint or (head['init_cfg'] if is_named(head.get('init_cfg') or {}, 'TimmClassifier') else {})
            for head, checkpoint in zip(self._heads, self._checkpoints, strict=True)
        ]

    def restart_copies(self, names: Sequence[str] | None = None) -> None:
        """Let copies, all or those of some tunings, start from the present weights of the anchors' heads."""
        for name in self.tuned if names is None else names:
            anchor = int(name) if name.isdecimal() else last_anchor(name, len(self.anchors))
            self.tuned[name].load_state_dict(self.anchors[anchor].state_dict())

    def head(self, exit_: Exit) -> nn.Module:
        """The neck or head of an exit.

        Raises:
            ValueError: there is none.
        """
        key = str(exit_.anchor) if exit_.tuning == SHARED else exit_.tuning
        if exit_.anchor >= len(self.anchors) or (key and key not in self.tuned):
            raise UserError(
                f'no head for exit {tuple(exit_)}: there are {len(self.anchors)} heads of anchors and copies for '
                f"{list(self.tuned)}; 'heads' needs one config for each anchor, and 'exact' and 'own_tunings' must be "
                "the backbone's"
            )
        return self.tuned[key] if key else self.anchors[exit_.anchor]

    def forward(self, maps: ExitMaps, *args: Any, **kwargs: Any) -> Any:
        """What the head of the maps' exit gives; feature maps of a neck keep the exit."""
        outputs = self._head_of(maps)(maps, *args, **kwargs)
        is_maps = isinstance(outputs, list | tuple) and all(isinstance(output, Tensor) for output in outputs)
        return ExitMaps(outputs, maps.exit) if is_maps else outputs

    def loss(self, maps: ExitMaps, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        return self._head_of(maps).loss(maps, *args, **kwargs)

    def predict(self, maps: ExitMaps, *args: Any, **kwargs: Any) -> Any:
        return self._head_of(maps).predict(maps, *args, **kwargs)

    def loss_and_predict(self, maps: ExitMaps, *args: Any, **kwargs: Any) -> tuple:
        return self._head_of(maps).loss_and_predict(maps, *args, **kwargs)

    def train(self, mode: bool = True) -> 'PerExit':
        super().train(mode)
        if self.exact:
            self.anchors.eval()
        return self

    def __getattr__(self, name: str) -> Any:
        if name in _COMMON_ATTRIBUTES:
            return getattr(self.anchors[0], name)
        return super().__getattr__(name)

    def _head_of(self, maps: ExitMaps) -> nn.Module:
        if not isinstance(maps, ExitMaps):
            raise UserError(
                "PerExit gets feature maps that do not say through which exit they left: set exits='own' in the "
                'backbone, and wrap the neck in PerExit, too'
            )
        return self.head(maps.exit)


def heads_of_exit(model: nn.Module, exit_: Exit) -> dict[str, str]:
    """For each ``PerExit`` in a model, by name, the name of its head for an exit, such as ``decode_head.anchors.0``."""
    names = {}
    for name, module in model.named_modules():
        if isinstance(module, PerExit):
            head = module.head(exit_)
            names[name] = next(inner for inner, child in model.named_modules() if child is head)
    return names


def _split_pretrained(head: dict) -> tuple[dict, dict]:
    """A head's config without an ``init_cfg`` that names a checkpoint, and what that says.

    Some heads' ``init_weights`` ignore ``init_cfg``: Segmenter's, for one.
    """
    init_cfg = head.get('init_cfg')
    if not isinstance(init_cfg, dict) or init_cfg.get('type') != 'Pretrained':
        return dict(head), {}
    without = {key: value for key, value in head.items() if key != 'init_cfg'}
    return without, {key: value for key, value in init_cfg.items() if key != 'type'}


def _check_alike(heads: Sequence[nn.Module]) -> None:
    for name in _COMMON_ATTRIBUTES:
        # A neck's channels are for the head of its exit alone.
        if name == 'out_channels' and not hasattr(heads[0], 'num_classes'):
            continue
        values = [getattr(head, name, None) for head in heads]
        if any(value != values[0] for value in values):
            raise UserError(f'heads of a PerExit must have one {name}, got {values}: they serve one model')
