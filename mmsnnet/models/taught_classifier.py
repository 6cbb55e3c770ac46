"""``TaughtClassifier``: a classifier of MMPretrain that also learns from a teacher.

MMPretrain is optional, so a config imports this module itself: ``custom_imports``.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from mmpretrain.models import ImageClassifier
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from mmsnnet.errors import UserError
from mmsnnet.models.teachers import check_teacher, create_teacher
from mmsnnet.registry import MODELS, register


@register(MODELS)
class TaughtClassifier(ImageClassifier):
    """An ``ImageClassifier`` whose loss is half that of its labels, half that of a teacher's answers.

    This is DeiT's hard distillation (Touvron et al. 2021) without a token and a head of its own, as SN-Net v1 has it.
    The teacher sees the images that the model sees, mixed and normalised. Its answer is its most likely class.

    Args:
        teacher: arguments of ``create_teacher``. It is loaded in ``init_weights``, when training starts, and is no part
            of checkpoints. None: the model learns from labels alone.
        **classifier: arguments of ``ImageClassifier``.

    Raises:
        ValueError: ``teacher`` names no model.
    """

    def __init__(self, teacher: Mapping | None = None, **classifier: Any) -> None:
        super().__init__(**classifier)
        if teacher is not None and (not isinstance(teacher, Mapping) or 'model' not in teacher):
            raise UserError(f"teacher must be a dict with the name of a timm model as 'model', got {teacher!r}")
        self._teacher_args = teacher
        # Not a submodule: it has no place in checkpoints, in the optimizer, or among gradients that ranks average.
        self._teachers: list[nn.Module] = []

    def init_weights(self) -> None:
        super().init_weights()
        if self._teacher_args is not None:
            teacher = create_teacher(**self._teacher_args)
            check_teacher(teacher, self.head.num_classes, *self._normalisation())
            self._teachers = [teacher.to(next(self.parameters()).device)]

    def loss(self, inputs: Tensor, data_samples: list[DataSample]) -> dict[str, Tensor]:
        """Losses of images (B, 3, H, W): ``labels.loss``, and what else the head gives, and ``teacher.loss``."""
        if self._teacher_args is None:
            return super().loss(inputs, data_samples)
        features = self.extract_feat(inputs)
        # MMEngine calls the sum of all losses 'loss'.
        losses = {f'labels.{name}': value for name, value in self.head.loss(features, data_samples).items()}
        losses['teacher.loss'] = F.cross_entropy(self.head(features), self._answers(inputs))
        return {name: value / 2 if 'loss' in name else value for name, value in losses.items()}

    @torch.no_grad()
    def _answers(self, images: Tensor) -> Tensor:
        """The teacher's class (B,) of each image."""
        if not self._teachers:
            raise UserError('the teacher is not loaded: call init_weights() of the model before its loss')
        return self._teachers[0](images).argmax(dim=1)

    def _normalisation(self) -> list[list[float]]:
        """Mean and standard deviation that the data preprocessor normalises by."""
        preprocessor = self.data_preprocessor
        return [getattr(preprocessor, name, torch.empty(0)).flatten().tolist() for name in ('mean', 'std')]

    def _apply(self, fn: Callable, *args: Any) -> 'TaughtClassifier':
        """What ``to`` and the like do to the model, they do to the teacher."""
        for teacher in self._teachers:
            teacher._apply(fn, *args)
        return super()._apply(fn, *args)
