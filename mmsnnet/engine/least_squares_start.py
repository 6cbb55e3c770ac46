"""The least-squares start of a training: stitching layers are solved on a few of its images."""

import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from mmengine.dataset import pseudo_collate
from mmengine.dist import get_dist_info, is_main_process
from mmengine.runner import Runner
from torch import Tensor, nn

from mmsnnet.engine.batches import mask_padding
from mmsnnet.engine.randomness import seeded
from mmsnnet.engine.runners import unwrapped_model
from mmsnnet.files import write_json
from mmsnnet.models import find_backbone, solve_stitching_layers

# In the log folder of a runner.
STITCHING_LAYERS_FILE = 'stitching_layers.json'


def start_from_least_squares(runner: Runner, num_images: int, seed: int) -> None:
    """Solve the stitching layers of a runner's model, and write what they explain to ``stitching_layers.json``.

    The file, in the runner's log folder, holds ``images``, the number of images, and ``explained_variance``: by layer,
    such as ``up.0.3``, the share of the variance of the features it enters that it explains.

    Args:
        num_images: training images, over all ranks; at most all of them.
        seed: of the choice of images and of their augmentations.
    """
    start = time.time()
    model, dataset = unwrapped_model(runner), runner.train_dataloader.dataset
    indices = random.Random(seed).sample(range(len(dataset)), min(num_images, len(dataset)))
    rank, num_ranks = get_dist_info()
    images = _training_images(model, dataset, indices[rank::num_ranks], seed)
    explained = solve_stitching_layers(find_backbone(model), images)
    runner.logger.info(f'least-squares start on {len(indices)} training images: {time.time() - start:.1f} s')
    shares = ', '.join(f'{name} {share:.1%}' for name, share in explained.items())
    runner.logger.info(f'of the variance of the features they enter, stitching layers explain: {shares}')
    if is_main_process():
        path = Path(runner.log_dir, STITCHING_LAYERS_FILE)
        write_json(path, {'images': len(indices), 'explained_variance': explained})


def _training_images(
    model: nn.Module, dataset: Sequence, indices: Sequence[int], seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Preprocessed training images (1, 3, H, W), augmented alike whichever rank loads them, and masks of padding."""
    for index in indices:
        with seeded(seed, index):
            batch = model.data_preprocessor(pseudo_collate([dataset[index]]), training=True)
        yield batch['inputs'], mask_padding(batch['inputs'], batch['data_samples'])
