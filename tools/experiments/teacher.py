"""A segmentor whose largest anchor, a finished model, teaches the route that trains."""

import torch
import torch.nn.functional as F
from mmseg.models import EncoderDecoder
from mmseg.registry import MODELS
from mmseg.utils import SampleList
from torch import Tensor

from mmsnnet.models import find_backbone


@MODELS.register_module()
class TaughtEncoderDecoder(EncoderDecoder):
    """An ``EncoderDecoder`` with one more loss: the KL divergence per pixel from the large anchor's classes.

    Args:
        teacher_share: of each batch, for which the large anchor runs, too.
        teacher_weight: of the loss.
        **kwargs: as ``EncoderDecoder``'s.
    """

    def __init__(self, *args, teacher_share: float = 0.5, teacher_weight: float = 1.0, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.teacher_share = teacher_share
        self.teacher_weight = teacher_weight

    def loss(self, inputs: Tensor, data_samples: SampleList) -> dict[str, Tensor]:
        """Losses of images (B, 3, H, W)."""
        features = self.extract_feat(inputs)
        losses = self._decode_head_forward_train(features, data_samples)
        count = max(1, round(len(inputs) * self.teacher_share))
        student = self.decode_head(features)[:count]
        return losses | {'loss_teacher': self.teacher_weight * divergence(self._teach(inputs[:count]), student)}

    @torch.no_grad()
    def _teach(self, images: Tensor) -> Tensor:
        """Logits (B, classes, h, w) of the large anchor."""
        backbone = find_backbone(self)
        route = backbone.route
        backbone.set_route(len(backbone.anchors) - 1)
        try:
            return self.decode_head(self.extract_feat(images))
        finally:
            backbone.set_route(route)


def divergence(teacher: Tensor, student: Tensor) -> Tensor:
    """Mean over pixels of KL(teacher || student) for logits (B, classes, h, w)."""
    expected, given = (F.log_softmax(logits, dim=1) for logits in (teacher, student))
    pixelwise = F.kl_div(given, expected, reduction='none', log_target=True).sum(dim=1)
    return pixelwise.mean()
