"""How much what a route says of a picture differs from what another one says."""

import torch
from mmengine.structures import BaseDataElement, InstanceData

from mmsnnet.evaluation.reports.drawing import MIN_SCORE

# Relative change of a depth that counts, and overlap of boxes that are the same.
DEPTH_CHANGE = 0.1
MIN_IOU = 0.5


def describe_difference(sample: BaseDataElement, reference: BaseDataElement, name: str) -> str:
    """One sentence on how a prediction of a picture differs from that of the route ``name``."""
    if 'pred_sem_seg' in sample:
        share = (sample.pred_sem_seg.data != reference.pred_sem_seg.data).float().mean().item()
        return f'{share:.1%} of the pixels have another class than with {name}.'
    if 'pred_depth_map' in sample:
        ratio = (sample.pred_depth_map.data.float() / reference.pred_depth_map.data.float().clamp(min=1e-6)).flatten()
        share = ((ratio - 1).abs() > DEPTH_CHANGE).float().mean().item()
        return f'The depth of {share:.1%} of the pixels differs by more than {DEPTH_CHANGE:.0%} from that with {name}.'
    if 'pred_instances' in sample:
        here, there = _sure(sample.pred_instances), _sure(reference.pred_instances)
        return f'{len(here)} objects, {name} finds {len(there)}; {_count_shared(here, there)} are the same.'
    best, other = sample.pred_score.argmax(), reference.pred_score.argmax()
    return f'The likeliest class is {"the same as" if best == other else "another than"} with {name}.'


def _sure(instances: InstanceData) -> InstanceData:
    return instances[instances.scores > MIN_SCORE]


def _count_shared(first: InstanceData, second: InstanceData) -> int:
    """How many objects of one have a partner of the same class at the same place in the other."""
    from mmdet.structures.bbox import get_box_tensor
    from torchvision.ops import box_iou

    overlaps = box_iou(get_box_tensor(first.bboxes), get_box_tensor(second.bboxes))
    is_same = (overlaps > MIN_IOU) & (first.labels[:, None] == second.labels)
    # A pair takes both partners away, best pairs first.
    count, overlaps = 0, torch.where(is_same, overlaps, torch.zeros_like(overlaps))
    while overlaps.numel() and overlaps.max() > 0:
        row, column = divmod(int(overlaps.argmax()), overlaps.shape[1])
        overlaps[row], overlaps[:, column] = 0, 0
        count += 1
    return count
