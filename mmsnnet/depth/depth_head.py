"""What heads of depth share: levels with class tokens, the loss, and depth within its limits."""

from collections.abc import Sequence
from typing import Any

import torch
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.utils import resize
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from mmsnnet.errors import UserError
from mmsnnet.settings import check_number

# An output level: a map (B, C, h, w), alone or with the class token (B, C).
Level = Tensor | Sequence[Tensor]


class DepthHead(BaseDecodeHead):
    """A decode head of MMSegmentation's ``DepthEstimator``, whose ``forward`` gives depth (B, 1, h, w) in metres.

    The loss sees depth as it is, resized to the ground truth. Predictions are resized to the image, then clamped.

    Args:
        in_channels, channels: as MMSegmentation's.
        min_depth, max_depth: limits of predictions, in metres.
        loss_decode: config of a loss of predicted and true depth, both (B, 1, H, W), or a list of them; default:
            ``SigLoss``.
        init_cfg: MMEngine's; default: none.
        **kwargs: as MMSegmentation's.

    Raises:
        ValueError: limits that are not positive and rising; while training, ground truth of another size than its
            image.
    """

    def __init__(
        self,
        in_channels: int | Sequence[int],
        channels: int,
        min_depth: float = 1e-3,
        max_depth: float = 10.0,
        loss_decode: dict | Sequence[dict] | None = None,
        init_cfg: dict | None = None,
        **kwargs: Any,
    ) -> None:
        # MMSegmentation warns where one channel leaves without a threshold, which depth does not have.
        one_channel = dict(num_classes=1, out_channels=1, threshold=0.0, dropout_ratio=0)
        loss_decode = loss_decode or dict(type='SigLoss')
        super().__init__(in_channels, channels, loss_decode=loss_decode, init_cfg=init_cfg, **one_channel, **kwargs)
        # Heads of depth have layers of their own in its place.
        del self.conv_seg
        self.min_depth = check_number('min_depth', min_depth, above=0)
        self.max_depth = check_number('max_depth', max_depth, above=min_depth, meaning='it must exceed min_depth')

    def loss_by_feat(self, depth: Tensor, batch_data_samples: Sequence[SegDataSample]) -> dict[str, Tensor]:
        """The losses of depth (B, 1, h, w), by name."""
        truth = self._stack_batch_gt(batch_data_samples)
        depth = resize(depth, truth.shape[2:], mode='bilinear', align_corners=self.align_corners)
        results: dict[str, Tensor] = {}
        for loss in self.loss_decode if isinstance(self.loss_decode, nn.ModuleList) else [self.loss_decode]:
            results[loss.loss_name] = results.get(loss.loss_name, 0) + loss(depth, truth)
        return results

    def predict_by_feat(self, depth: Tensor, batch_img_metas: Sequence[dict]) -> Tensor:
        """Depth (B, 1, H, W) of the images' size, within ``min_depth`` and ``max_depth``."""
        return super().predict_by_feat(depth, batch_img_metas).clamp(self.min_depth, self.max_depth)

    def _stack_batch_gt(self, batch_data_samples: Sequence[SegDataSample]) -> Tensor:
        """True depth (B, 1, H, W)."""
        for sample in batch_data_samples:
            _check_size(sample)
        return torch.stack([sample.gt_depth_map.data for sample in batch_data_samples])


def map_of(level: Level) -> Tensor:
    """The map of a level, without its class token."""
    return level if isinstance(level, Tensor) else level[0]


def check_class_tokens(levels: Sequence[Level], readout: str) -> None:
    """Refuse levels without class tokens.

    Raises:
        UserError: saying what makes them.
    """
    # A map of two images has two items, too.
    if any(isinstance(level, Tensor) or len(level) < 2 or level[1] is None for level in levels):
        raise UserError(
            f'readout={readout!r} reads the class token, but levels without it leave the backbone: set '
            "output_cls_token=True in the backbone, or readout='ignore' in the head, which models without a class "
            'token, such as SigLIP and SAM, need'
        )


def _check_size(sample: SegDataSample) -> None:
    left, right, top, bottom = sample.metainfo.get('padding_size', (0, 0, 0, 0))
    # MMSegmentation's pad_shape is that of the ground truth itself.
    height, width = sample.metainfo['img_shape'][:2]
    image, truth = (height + top + bottom, width + left + right), tuple(sample.gt_depth_map.data.shape[-2:])
    if truth != image:
        raise UserError(
            f'{sample.metainfo.get("img_path", "an image")} is {image[0]}x{image[1]}, but its depth map '
            f'{truth[0]}x{truth[1]} (height x width): resize and crop both alike in the pipeline'
        )
