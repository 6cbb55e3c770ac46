"""The least-squares start of a training: stitching layers are solved on a few of its images."""

import time
from pathlib import Path

from mmengine.dist import get_dist_info, is_main_process
from mmengine.runner import Runner

from mmsnnet.engine.batches import choose_images, mask_padding, training_batches
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
    indices = choose_images(dataset, num_images, seed)
    rank, num_ranks = get_dist_info()
    batches = training_batches(model, dataset, indices[rank::num_ranks], seed)
    images = ((batch['inputs'], mask_padding(batch['inputs'], batch['data_samples'])) for batch in batches)
    explained = solve_stitching_layers(find_backbone(model), images)
    runner.logger.info(f'least-squares start on {len(indices)} training images: {time.time() - start:.1f} s')
    shares = ', '.join(f'{name} {share:.1%}' for name, share in explained.items())
    runner.logger.info(f'of the variance of the features they enter, stitching layers explain: {shares}')
    if is_main_process():
        path = Path(runner.log_dir, STITCHING_LAYERS_FILE)
        write_json(path, {'images': len(indices), 'explained_variance': explained})
