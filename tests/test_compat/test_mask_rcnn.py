"""Law: mmdet's own Mask R-CNN trains and predicts with mmcv-lite on a CPU."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mmsnnet.compat import install

install()

HEIGHT, WIDTH = 64, 96


@pytest.fixture(scope='module')
def model() -> torch.nn.Module:
    import mmdet
    from mmdet.utils import register_all_modules
    from mmengine.config import Config
    from mmengine.registry import MODELS, DefaultScope

    register_all_modules(init_default_scope=False)
    torch.manual_seed(0)
    file = Path(mmdet.__file__).parent / '.mim/configs/mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'
    config = Config.fromfile(file).model
    config.backbone.update(depth=18, init_cfg=None)
    config.neck.in_channels = [64, 128, 256, 512]
    config.roi_head.bbox_head.num_classes = config.roi_head.mask_head.num_classes = 2
    config.test_cfg.rcnn.score_thr = 0.0  # random weights are sure of nothing
    with DefaultScope.overwrite_default_scope('mmdet'):
        return MODELS.build(config)


@pytest.fixture
def batch() -> dict:
    """One image with two boxes of two classes, and their masks."""
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    from mmengine.structures import InstanceData

    boxes = torch.tensor([[8.0, 8, 40, 40], [40, 16, 88, 56]])
    masks = np.zeros((2, HEIGHT, WIDTH), dtype=np.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.int().tolist(), strict=True):
        mask[y1:y2, x1:x2] = 1
    shape = (HEIGHT, WIDTH)
    sample = DetDataSample(
        metainfo={'img_shape': shape, 'ori_shape': shape, 'scale_factor': (1.0, 1.0), 'batch_input_shape': shape}
    )
    sample.gt_instances = InstanceData(
        bboxes=boxes, labels=torch.tensor([0, 1]), masks=BitmapMasks(masks, HEIGHT, WIDTH)
    )
    image = torch.randint(0, 256, (3, HEIGHT, WIDTH), generator=torch.Generator().manual_seed(0)).byte()
    return {'inputs': [image], 'data_samples': [sample]}


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_one_step_of_training(model, batch, dtype):
    data = model.data_preprocessor(batch, training=True)
    model.zero_grad()
    with torch.autocast('cpu', dtype, enabled=dtype != torch.float32):
        loss, parts = model.parse_losses(model(**data, mode='loss'))
    loss.backward()
    assert {'loss_rpn_cls', 'loss_rpn_bbox', 'loss_cls', 'loss_bbox', 'loss_mask'} <= set(parts)
    assert torch.isfinite(loss)
    for name in ('backbone.layer2.0.conv1', 'neck.fpn_convs.0.conv', 'roi_head.mask_head.convs.0.conv'):
        assert model.get_submodule(name).weight.grad.abs().sum() > 0


def test_prediction(model, batch):
    model.eval()
    with torch.no_grad():
        (sample,) = model.test_step(batch)
    found = sample.pred_instances
    assert 0 < len(found) <= 100
    assert found.masks.shape == (len(found), HEIGHT, WIDTH)
    assert (found.scores.diff() <= 0).all()
