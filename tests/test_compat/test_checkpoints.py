"""Law 9: a checkpoint this package writes loads with ``torch.load(weights_only=True)``; and a run that resumes from one
goes on as if it had never stopped."""

import io
import json
import logging
import pickle
from collections import Counter, OrderedDict, namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.evaluator import BaseMetric
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModel
from mmengine.optim import OneCycleLR
from mmengine.runner import Runner, save_checkpoint
from mmengine.runner import runner as mmengine_runner
from mmengine.runner.checkpoint import CheckpointLoader, load_checkpoint
from torch import nn
from torch.utils.data import Dataset

from mmsnnet.compat import checkpoints, install
from mmsnnet.compat.checkpoints import from_plain, to_plain
from mmsnnet.errors import UserError

install()

NUM_ITERS = 12


class ToyDataset(Dataset):
    """16 samples of x (4,) and y (2,); its metainfo holds arrays, as some data sets' palettes do."""

    metainfo = {
        'classes': ('cat', 'dog'),
        'palette': np.arange(6, dtype=np.uint8).reshape(2, 3),
        'names': np.array(['a']),
    }

    def __len__(self) -> int:
        return 16

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(index)
        return {'x': torch.randn(4, generator=generator), 'y': torch.randn(2, generator=generator)}


class ToyModel(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))

    def forward(self, x: torch.Tensor, y: torch.Tensor, mode: str) -> dict[str, torch.Tensor] | list[torch.Tensor]:
        error = (self.net(x) - y).square().mean(dim=1)
        return {'loss': error.mean()} if mode == 'loss' else list(error)


class ToyMetric(BaseMetric):
    default_prefix = 'toy'

    def process(self, data_batch: dict, data_samples: list[torch.Tensor]) -> None:
        self.results += [sample.numpy() for sample in data_samples]

    def compute_metrics(self, results: list) -> dict[str, np.floating]:
        return {'error': np.mean(results)}  # a numpy scalar, as IoUMetric's are; it becomes the hub's 'best_score'


def make_runner(work_dir: Path, resume_from: Path | None = None) -> Runner:
    def loader(**sampler: object) -> dict:
        collate = {'type': 'default_collate'}
        return {'batch_size': 4, 'num_workers': 0, 'dataset': ToyDataset(), 'sampler': sampler, 'collate_fn': collate}

    torch.manual_seed(len(str(work_dir)))  # a run that resumes must not owe anything to its fresh weights
    return Runner(
        ToyModel(),
        str(work_dir),
        train_dataloader=loader(type='InfiniteSampler', shuffle=True),
        val_dataloader=loader(type='DefaultSampler', shuffle=False),
        val_evaluator=[ToyMetric()],
        train_cfg={'type': 'IterBasedTrainLoop', 'max_iters': NUM_ITERS, 'val_interval': 3},
        val_cfg={},
        optim_wrapper={'optimizer': {'type': 'AdamW', 'lr': 0.01}},
        param_scheduler=[
            {'type': 'LinearLR', 'start_factor': 0.1, 'end': 8, 'by_epoch': False},
            {'type': 'MultiStepLR', 'milestones': [5, 10], 'by_epoch': False},
        ],
        default_hooks={
            'logger': {'type': 'LoggerHook', 'interval': 1},
            'checkpoint': {
                'type': 'CheckpointHook',
                'interval': NUM_ITERS // 2,
                'by_epoch': False,
                'save_best': 'toy/error',
                'rule': 'less',
                'published_keys': ['meta', 'state_dict'],
            },
        },
        custom_hooks=[{'type': 'EMAHook'}],
        log_processor={'by_epoch': False, 'window_size': NUM_ITERS},  # the smoothed loss spans the interruption
        randomness={'seed': 0},
        load_from=str(resume_from) if resume_from else None,
        resume=resume_from is not None,
        experiment_name=work_dir.name,
        log_level='ERROR',
    )


def logged_losses(runner: Runner) -> dict[int, float]:
    """Iteration -> smoothed loss, as the log files of the run tell."""
    (file,) = Path(runner.work_dir).glob('*/vis_data/scalars.json')
    lines = map(json.loads, file.read_text().splitlines())
    return {line['step']: line['loss'] for line in lines if 'loss' in line}


@pytest.fixture(scope='module')
def runs(tmp_path_factory) -> tuple[Runner, Runner]:
    """A run, and one that resumes from the middle of the first."""
    root = tmp_path_factory.mktemp('runs')
    whole = make_runner(root / 'whole')
    whole.train()
    resumed = make_runner(root / 'resumed', resume_from=root / 'whole' / f'iter_{NUM_ITERS // 2}.pth')
    resumed.train()
    return whole, resumed


def test_every_file_loads_with_weights_only(runs):
    files = [file for runner in runs for file in Path(runner.work_dir).glob('*.pth')]
    kinds = {file.name.split('_')[0] for file in files}
    published = [file for file in files if '-' in file.name]
    assert kinds == {'best', 'iter'}
    assert published
    for file in files:
        torch.load(file, weights_only=True)


def test_resuming_changes_nothing(runs):
    whole, resumed = runs
    histories = [runner.message_hub.get_scalar('train/loss').data for runner in runs]
    assert len(histories[0][0]) == NUM_ITERS
    for one, other in zip(*histories, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(weight, resumed.model.state_dict()[name]), name
    states = [runner.optim_wrapper.state_dict()['state'] for runner in runs]
    for index, state in states[0].items():
        for name, value in state.items():
            assert torch.equal(value, states[1][index][name]), (index, name)


def test_the_logged_loss_goes_on(runs):
    whole, resumed = map(logged_losses, runs)
    assert list(whole) == list(range(1, NUM_ITERS + 1))
    assert resumed == {step: loss for step, loss in whole.items() if step > NUM_ITERS // 2}


@pytest.mark.parametrize('anneal_strategy', ['cos', 'linear'])
def test_the_state_of_one_cycle_is_plain_and_goes_on(anneal_strategy, tmp_path):
    """MMEngine's holds the function that it anneals by."""

    def make() -> tuple[torch.optim.Optimizer, OneCycleLR]:
        optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)
        return optimizer, OneCycleLR(optimizer, eta_max=1.0, total_steps=12, anneal_strategy=anneal_strategy)

    def rates(optimizer: torch.optim.Optimizer, scheduler: OneCycleLR) -> list[float]:
        taken = []
        for _ in range(6):
            optimizer.step()
            scheduler.step()
            taken += scheduler.get_last_value()
        return taken

    optimizer, scheduler = make()
    rates(optimizer, scheduler)
    file = tmp_path / 'iter_6.pth'
    mmengine_runner.save_checkpoint(
        {'optimizer': optimizer.state_dict(), 'param_schedulers': [scheduler.state_dict()]}, str(file)
    )
    torch.load(file, weights_only=True)
    state = CheckpointLoader.load_checkpoint(str(file))
    resumed = make()
    resumed[0].load_state_dict(state['optimizer'])
    resumed[1].load_state_dict(state['param_schedulers'][0])
    assert rates(*resumed) == rates(optimizer, scheduler)


def test_metainfo_and_best_score_survive(runs):
    file = Path(runs[0].work_dir) / f'iter_{NUM_ITERS}.pth'
    checkpoint = CheckpointLoader.load_checkpoint(str(file))
    # mmengine compares the pickles upon resume, and warns where they differ
    assert pickle.dumps(checkpoint['meta']['dataset_meta']) == pickle.dumps(ToyDataset.metainfo)
    best_score = checkpoint['message_hub']['runtime_info']['best_score']
    assert type(best_score) is float
    assert best_score == runs[0].message_hub.get_info('best_score')


Point = namedtuple('Point', 'x y')


@pytest.mark.parametrize(
    ('value', 'plain'),
    [
        (np.float32(0.5), 0.5),
        (np.str_('a'), 'a'),
        (ConfigDict(a=[ConfigDict(b=(1, np.int64(2)))]), {'a': [{'b': (1, 2)}]}),
        (Point(1, 2), (1, 2)),
        ({np.int64(1): 'a'}, {1: 'a'}),
        (frozenset({1}), {1}),
        (Counter({5: np.int64(1)}), Counter({5: 1})),
    ],
)
def test_to_plain_gives_builtin_types(value, plain):
    converted = to_plain(value)
    assert converted == plain
    assert repr(converted) == repr(plain)  # equal is not enough: np.float32(0.5) == 0.5


def test_to_plain_returns_what_is_plain_itself():
    state_dict = OrderedDict(weight=torch.zeros(2), bias=nn.Parameter(torch.zeros(2)))
    state_dict._metadata = OrderedDict(version=1)
    for value in (state_dict, {'a': [(1, {2}, None)]}, [torch.Size([1]), torch.float16, 1j, b'x']):
        assert to_plain(value) is value
        assert from_plain(value) is value


def test_a_state_dict_that_changes_keeps_its_metadata():
    state_dict = OrderedDict(extra=np.float64(1))
    state_dict._metadata = {'': {'version': 2}}
    converted = to_plain(state_dict)
    assert type(converted) is OrderedDict
    assert type(converted['extra']) is float
    assert converted._metadata == {'': {'version': 2}}


@pytest.mark.parametrize(
    'array',
    [
        np.arange(6, dtype=np.uint8).reshape(2, 3).T,
        np.array(1.5),
        np.array([], dtype=np.int16),
        np.array([[True], [False]]),
        np.array(['a', 'bcd']),
        np.array([1, 2], dtype='>i4'),
    ],
)
def test_arrays_come_back(array):
    file = io.BytesIO()
    torch.save(to_plain({'array': array}), file)
    file.seek(0)
    restored = from_plain(torch.load(file, weights_only=True))['array']
    np.testing.assert_array_equal(restored, array)
    assert restored.dtype == array.dtype.newbyteorder('=')


def test_loss_histories_come_back_and_go_on():
    buffer = HistoryBuffer([1.0, 2.0, 4.0], [1, 1, 2], max_length=3)
    restored = from_plain(to_plain(buffer))
    assert isinstance(restored, HistoryBuffer)
    restored.update(8.0)
    assert restored.data[0].tolist() == [2.0, 4.0, 8.0]
    assert restored.data[1].tolist() == [1, 2, 1]
    assert buffer.data[0].tolist() == [1.0, 2.0, 4.0]  # the plain form shares no memory
    assert restored.mean(2) == 4.0


def test_an_unknown_mark_teaches():
    with pytest.raises(ValueError, match=r"mmsnnet_type 'Route', .* HistoryBuffer and ndarray: .* newer mmsnnet"):
        from_plain({'mmsnnet_type': 'Route'})


def test_an_object_without_plain_form_stays_with_a_warning(caplog, monkeypatch):
    said: list[str] = []
    monkeypatch.setattr(checkpoints, 'print_log', lambda message, logger, level: said.append((message, level)))
    checkpoints._warn_not_plain.cache_clear()
    value = object()
    assert to_plain([value, object()])[0] is value
    ((message, level),) = said  # once a type
    assert 'builtins.object' in message
    assert level == logging.WARNING


def test_an_old_checkpoint_teaches_and_loads_when_trusted(tmp_path, monkeypatch):
    file = tmp_path / 'old.pth'
    model = nn.Linear(2, 2)
    history = {'log_scalars': {'loss': HistoryBuffer([1.0], [1])}}
    torch.save({'state_dict': model.state_dict(), 'message_hub': history}, file)
    with pytest.raises(UserError, match=r'old\.pth .*pickled Python objects.*TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1'):
        load_checkpoint(model, str(file))

    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    with pytest.warns(UserWarning, match='TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'):
        checkpoint = load_checkpoint(model, str(file))
    assert checkpoint['message_hub']['log_scalars']['loss'].current() == 1.0
    monkeypatch.delenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD')
    save_checkpoint(checkpoint, str(file))
    torch.load(file, weights_only=True)


def test_a_missing_file_is_still_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match='missing'):
        CheckpointLoader.load_checkpoint(str(tmp_path / 'missing.pth'))


def test_finds_the_latest_checkpoint_of_a_run_killed_while_it_wrote_its_name(tmp_path):
    find = mmengine_runner.find_latest_checkpoint
    assert find(str(tmp_path)) is None
    (tmp_path / 'last_checkpoint').write_text('')
    assert find(str(tmp_path)) is None
    for name in ('iter_9.pth', 'iter_10.pth', 'best_mIoU_iter_50.pth'):
        (tmp_path / name).touch()
    assert find(str(tmp_path)) == str(tmp_path / 'iter_10.pth')
    (tmp_path / 'last_checkpoint').write_text('elsewhere/iter_9.pth')
    assert find(str(tmp_path)) == 'elsewhere/iter_9.pth'
