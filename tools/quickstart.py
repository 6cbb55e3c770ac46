"""Train two small ViTs, stitch them, train eight routes between them, and evaluate these and the two ViTs.

$ bash tools/quickstart.sh
$ bash tools/quickstart.sh --data camvid --data-root data/camvid

A second call goes on where the first one stopped, and trains nothing twice.
"""

import argparse
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config

from mmsnnet.cli import command

CONFIGS = Path('configs')
# The small and the large model.
MODELS = {
    'shapes': [
        'shapes/anchor-s6_setr-naive_b16-500_shapes-96x96.py',
        'shapes/anchor-l12_setr-naive_b16-500_shapes-96x96.py',
    ],
    'camvid': [
        'camvid/anchor-s6_setr-naive_b8-1k_camvid-240x320.py',
        'camvid/anchor-l12_setr-naive_b8-2k_camvid-240x320.py',
    ],
}


@dataclass
class Model:
    """A config, and what its training leaves."""

    config: Path

    @property
    def work_dir(self) -> Path:
        return Path('work_dirs', self.config.stem)

    @property
    def checkpoint(self) -> Path:
        """The file that a finished training leaves."""
        return self.work_dir / f'iter_{Config.fromfile(self.config).train_cfg.max_iters}.pth'

    @property
    def records(self) -> Path:
        return self.work_dir / 'stitches.json'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        '--data', choices=MODELS, default='shapes', help='data set; shapes are drawn here and now (shapes)'
    )
    parser.add_argument('--data-root', help='folder of the data set (data/<name>)')
    parser.add_argument('--fresh', action='store_true', help='forget what an earlier call trained')
    return parser.parse_args()


def run(*words: str | Path) -> None:
    """Show a command and run it."""
    print(f'\n$ {shlex.join(map(str, ("python", *words)))}', flush=True)
    process = subprocess.run([sys.executable, *map(str, words)], check=False)
    if process.returncode:
        # It has said why.
        sys.exit(f'stopped: {words[0]} ended with status {process.returncode}')


def prepare_data(name: str, root: str) -> None:
    """Draw the shapes.

    Raises:
        FileNotFoundError: a real data set is not there.
    """
    if name == 'shapes' and not Path(root, 'annotations', 'val').is_dir():
        print('The default data set is generated: drawn shapes, not photographs. For real ones see --data camvid.')
        run('tools/make_shapes.py', root)
    for part in ('images/train', 'images/val', 'annotations/train', 'annotations/val'):
        if not Path(root, part).is_dir():
            raise FileNotFoundError(
                f'no folder {str(Path(root, part))!r}: give --data-root PATH of a data set with '
                'images/{train,val} and annotations/{train,val}'
            )


def train_and_test(model: Model, data_root: str) -> None:
    """Train what is not trained yet, and evaluate what is not evaluated yet."""
    options = [
        'randomness.seed=0',
        *(f'{part}_dataloader.dataset.data_root={data_root}' for part in ('train', 'val', 'test')),
    ]
    if not model.checkpoint.exists():
        run('tools/train.py', model.config, '--progress', '--resume', '--cfg-options', *options)
    if not model.records.exists():
        run('tools/test.py', model.config, model.checkpoint, '--progress', '--cfg-options', *options)


@command
def main() -> None:
    args = parse_args()
    start = time.time()
    data_root = args.data_root or f'data/{args.data}'
    anchors = [Model(CONFIGS / config) for config in MODELS[args.data]]
    stitched = Model(Path('work_dirs', f'stitched-{args.data}.py'))
    if args.fresh:
        for model in (*anchors, stitched):
            shutil.rmtree(model.work_dir, ignore_errors=True)
        for suffix in ('.py', '.pth'):
            stitched.config.with_suffix(suffix).unlink(missing_ok=True)
    prepare_data(args.data, data_root)
    for anchor in anchors:
        train_and_test(anchor, data_root)
    if not stitched.config.exists():
        finished = (path for anchor in anchors for path in (anchor.config, anchor.checkpoint))
        run('tools/stitch.py', *finished, '--out', stitched.config)
    train_and_test(stitched, data_root)
    plot = stitched.work_dir / 'pareto.png'
    run('tools/plot.py', stitched.records, '--alone', *(anchor.records for anchor in anchors), '--out', plot)
    print(f'\nDone in {(time.time() - start) / 60:.1f} minutes. Records: {stitched.records}  plot: {plot}')


if __name__ == '__main__':
    main()
