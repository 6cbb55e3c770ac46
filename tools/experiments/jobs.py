"""Trainings with their evaluations: run once each, a few at a time."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.config import Config
from tqdm import tqdm

from mmsnnet.errors import UserError
from mmsnnet.files import write_json

# Tenths of the iterations after which followed routes are evaluated.
STOPS = (1, 2, 4, 7)


@dataclass
class Job:
    """One training and its evaluation.

    Attributes:
        followed: routes that are evaluated on the way, too.
        is_focused: whether a part of all routes trains: then these and the anchors' are evaluated, and no others.
    """

    folder: Path
    config: Config
    followed: tuple[str, ...] = ()
    is_focused: bool = False

    @property
    def path(self) -> Path:
        return self.folder / 'config.py'

    @property
    def records(self) -> Path:
        return self.folder / 'stitches.json'

    @property
    def checkpoint(self) -> Path:
        return self._checkpoint_at(self.config.train_cfg.max_iters)

    @property
    def minutes(self) -> float:
        return json.loads((self.folder / 'minutes.json').read_text())

    @property
    def stops(self) -> dict[int, Path]:
        """Iterations on the way -> records of the followed routes."""
        iterations = self.config.train_cfg.max_iters
        stops = [iterations * tenths // 10 for tenths in STOPS] if self.followed else []
        return {stop: self.folder / f'at_{stop}' / 'stitches.json' for stop in stops}

    def run(self, num_threads: int) -> None:
        """Train and evaluate, unless that is done."""
        self.folder.mkdir(parents=True, exist_ok=True)
        minutes = self.folder / 'minutes.json'
        if not minutes.exists():
            # MMEngine's dump takes seconds to lay a config out, and JSON has no tuples, which MMSegmentation asks for.
            settings = self.config.to_dict().items()
            self.path.write_text(''.join(f'{name} = {value!r}\n' for name, value in settings))
            start = time.time()
            run(self.folder / 'log.txt', num_threads, 'tools/train.py', self.path, '--work-dir', self.folder)
            write_json(minutes, (time.time() - start) / 60)
        for stop, records in self.stops.items():
            self._evaluate(num_threads, stop, records, '--routes', *self.followed)
        self._evaluate(num_threads, self.config.train_cfg.max_iters, self.records, *self._focus())

    def _focus(self) -> list[str]:
        """What lets a test evaluate the anchors' routes and those that were trained."""
        if not self.is_focused:
            return []
        anchors = (str(index) for index in range(len(self.config.model.backbone.anchors)))
        return ['--routes', *anchors, *torch.load(self.checkpoint, 'cpu', weights_only=True)['trained_routes']]

    def _checkpoint_at(self, iteration: int) -> Path:
        return self.folder / f'iter_{iteration}.pth'

    def _evaluate(self, num_threads: int, iteration: int, records: Path, *words: str) -> None:
        if not records.exists():
            words = 'tools/test.py', self.path, self._checkpoint_at(iteration), '--work-dir', records.parent, *words
            run(self.folder / 'log.txt', num_threads, *words)


def run(log: Path, num_threads: int, *words: str | Path) -> None:
    """Run one of our command lines.

    Raises:
        RuntimeError: it failed; its output says why.
    """
    with log.open('a') as output:
        print('$ python', *words, file=output, flush=True)
        # Configs of experiments import data sets from here.
        path = os.pathsep.join(filter(None, [os.getcwd(), os.environ.get('PYTHONPATH')]))
        environment = {**os.environ, 'OMP_NUM_THREADS': str(num_threads), 'PYTHONPATH': path}
        command = [sys.executable, *map(str, words)]
        done = subprocess.run(command, check=False, stdout=output, stderr=subprocess.STDOUT, env=environment)
    if done.returncode:
        raise UserError(f'{words[0]} ended with status {done.returncode}; see the end of {log}')


def run_all(jobs: Sequence[Job], num_at_once: int) -> None:
    """Run jobs, which do not need each other, a few at a time; the first that fails stops those not yet begun."""
    num_threads = max(1, (os.cpu_count() or 1) // num_at_once)
    with ThreadPoolExecutor(num_at_once) as pool, tqdm(total=len(jobs), desc='trainings', dynamic_ncols=True) as bar:
        futures = [pool.submit(job.run, num_threads) for job in jobs]
        try:
            for future in futures:
                future.result()
                bar.update()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
