"""Training in two processes: one route or two, averaged gradients, and the launchers that people use."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.registry import MODEL_WRAPPERS, init_default_scope
from mmengine.runner import FlexibleRunner
from ranks_job import state_of
from torch import nn
from torch.optim import SGD
from toy_exact import make_exact, with_weights

from mmsnnet.building import build_model, build_runner
from mmsnnet.models import find_backbone

ROOT = Path(__file__).parents[2]
# A rank that is aborted tells where.
ENVIRONMENT = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1', 'PYTHONFAULTHANDLER': '1'}
LEARNING_RATE = 1.0
CASES = {
    'one_route': {},
    'own_routes_step': {'custom_hooks.0.per_rank_routes': True, 'optim_wrapper.accumulative_counts': 2},
    'spoiled': {'spoiled_rank': 1, 'custom_hooks.0.on_nonfinite_loss': 'skip'},
    # The second batch uses nothing of what the first one did.
    'one_route_batch': {
        'custom_hooks.0.draw_per': 'batch',
        'custom_hooks.0.sampler': dict(type='SandwichSampler', _delete_=True),
        'optim_wrapper.accumulative_counts': 2,
    },
    # Ranks look at unequal numbers of images, the second time while the losses of training are watched.
    'focus_loss': {'custom_hooks.0.focus': dict(routes=1, images=3, anchors=False)},
    'focus_halving': {
        'custom_hooks.0.focus': dict(routes=1, by='halving', images=3, until=0.5, anchors=False),
        'custom_hooks.0.sampler': dict(type='LossSampler', _delete_=True),
    },
}
ONE_MORE = {'train_cfg.max_iters': 3}


def free_port() -> str:
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        return str(listener.getsockname()[1])


def launch(*words: object, **environment: str) -> subprocess.CompletedProcess:
    done = subprocess.run(
        list(map(str, words)),
        env={**ENVIRONMENT, **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture
def two_rank_config(make_config, tmp_path):
    """A config of two ranks: plain gradient descent, so that one step shows the gradients."""

    def make(name: str, launcher: str = 'pytorch', **changes):
        cfg = make_config(
            launcher=launcher,
            find_unused_parameters=True,
            work_dir=str(tmp_path / name),
            **{'train_cfg.max_iters': 2, 'custom_hooks.0.init_images': 4, **changes},
        )
        cfg.optim_wrapper.optimizer = dict(type='SGD', lr=LEARNING_RATE)
        cfg.dump(tmp_path / f'{name}.py')
        return cfg

    return make


def test_ranks_stay_alike_and_average_their_gradients(two_rank_config, tmp_path):
    cfgs = {name: two_rank_config(name, **changes) for name, changes in CASES.items()}
    cfgs['exact'] = with_weights(make_exact(two_rank_config('exact')), tmp_path)
    cfgs['exact'].dump(tmp_path / 'exact.py')
    two_rank_config('whole', **ONE_MORE)
    two_rank_config('resumed', resume=True, load_from=str(tmp_path / 'one_route' / 'iter_2.pth'), **ONE_MORE)
    torchrun = [sys.executable, '-m', 'torch.distributed.run', '--nproc_per_node', 2, '--master_port', free_port()]
    configs = [tmp_path / f'{name}.py' for name in (*cfgs, 'whole', 'resumed')]
    launch(*torchrun, ROOT / 'tests' / 'ranks_job.py', *configs)
    whole, resumed = left_by_ranks(tmp_path / 'whole'), left_by_ranks(tmp_path / 'resumed')
    for rank in range(2):
        assert len(resumed[rank]['batches']) == 1
        assert_equal_states(resumed[rank]['end'], whole[rank]['end'])
    for name, cfg in cfgs.items():
        ranks = left_by_ranks(tmp_path / name)
        for moment in ('start', 'end'):
            assert_equal_states(*(rank[moment] for rank in ranks))
        is_alike = ranks[0]['routes'] == ranks[1]['routes']
        assert is_alike is not name.startswith('own_routes')
        if name.endswith('_step'):
            assert all(len(set(rank['routes'])) == 1 for rank in ranks)
        assert ranks[0]['trained_routes'] == ranks[1]['trained_routes']
        assert len(ranks[0]['trained_routes']) == (1 if name.startswith('focus') else 4)
        assert_close_states(ranks[0]['end'], end_by_hand(cfg, ranks), ranks[0]['start'])
    # Law 11: finished anchors and their heads stay as they were.
    finished = {key: value for key, value in ranks[0]['start'].items() if '.anchors.' in key}
    assert {key.split('.')[0] for key in finished} == {'backbone', 'decode_head'}
    assert_equal_states(finished, {key: ranks[0]['end'][key] for key in finished})

    # Threads of the process group, alive while the interpreter shuts down, have aborted ranks on a busy machine.
    for rank in range(2):
        assert 'gloo' not in (tmp_path / f'threads_of_rank{rank}').read_text()

    alone = train(two_rank_config('alone', launcher='none', **CASES['focus_loss']))
    # One process chooses what two do.
    assert find_backbone(alone.model).trained_routes == left_by_ranks(tmp_path / 'focus_loss')[0]['trained_routes']
    solved = state_of(alone)
    for key, value in left_by_ranks(tmp_path / 'focus_loss')[0]['end'].items():
        if key.endswith(('up.0.1.weight', 'up.0.2.weight', 'down.0.1.weight')):
            torch.testing.assert_close(value, solved[key], msg=key)


def left_by_ranks(work_dir: Path) -> list[dict]:
    return [torch.load(work_dir / f'rank{rank}.pth', weights_only=False) for rank in range(2)]


def train(cfg):
    runner = build_runner(cfg)
    runner.train()
    return runner


def end_by_hand(cfg, ranks: list[dict]) -> dict:
    """The weights after the steps that the ranks made, each by the mean of the gradients on all its batches."""
    init_default_scope('mmseg')
    model = build_model(cfg)
    model.load_state_dict(ranks[0]['start'])
    model.train()
    optimizer = SGD(model.parameters(), LEARNING_RATE)
    per_step = cfg.optim_wrapper.get('accumulative_counts', 1)
    for first in range(0, 1 if 'spoiled_rank' in cfg else 2, per_step):
        optimizer.zero_grad()
        for iteration in range(first, first + per_step):
            for rank in ranks:
                find_backbone(model).set_route(rank['routes'][iteration])
                batch = model.data_preprocessor(rank['batches'][iteration], training=True)
                loss, _ = model.parse_losses(model(**batch, mode='loss'))
                (loss / len(ranks) / per_step).backward()
        optimizer.step()
    return model.state_dict()


def assert_equal_states(first: dict, second: dict) -> None:
    assert first.keys() == second.keys()
    for key in first:
        assert torch.equal(first[key], second[key]), key


def assert_close_states(first: dict, second: dict, start: dict) -> None:
    """Equal up to rounding, measured by how far training has moved the weights."""
    moved = 0
    for key in first:
        torch.testing.assert_close(first[key], second[key], rtol=1e-4, atol=1e-6, msg=key)
        moved += (first[key] - start[key]).abs().max().item() > 1e-4
    assert moved > 10


@pytest.mark.parametrize('launcher', ['dist_train.sh', 'mim', 'slurm'])
def test_launchers_train_on_two_ranks(two_rank_config, tmp_path, launcher):
    two_rank_config(launcher, launcher='none')
    config, port = tmp_path / f'{launcher}.py', free_port()
    if launcher == 'dist_train.sh':
        # By torchrun.
        path = f'{Path(sys.executable).parent}:{os.environ["PATH"]}'
        launch('bash', 'tools/dist_train.sh', config, 2, PORT=port, PATH=path)
    elif launcher == 'mim':
        words = ['train', 'mmsnnet', config, '--launcher', 'pytorch', '--gpus', 2, '--gpus-per-node', 2, '--port', port]
        launch(sys.executable, '-m', 'mim', *words, '-y')
    else:
        launch_slurm([sys.executable, 'tools/train.py', str(config), '--launcher', 'slurm'], port)
    assert (tmp_path / launcher / 'iter_2.pth').is_file()


def launch_slurm(command: list[str], port: str) -> None:
    """As ``srun`` starts two tasks on a machine."""
    processes = []
    for rank in range(2):
        slurm = {'SLURM_PROCID': str(rank), 'SLURM_LOCALID': str(rank), 'SLURM_NTASKS': '2', 'SLURM_NODELIST': 'here'}
        environment = {**ENVIRONMENT, **slurm, 'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': port}
        processes.append(subprocess.Popen(command, env=environment, cwd=ROOT, stderr=subprocess.PIPE, text=True))
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors


@pytest.mark.parametrize('setting', [{'find_unused_parameters': False}, {'static_graph': True}])
def test_refuses_to_train_ranks_that_expect_all_gradients(two_rank_config, setting, monkeypatch):
    cfg = two_rank_config('refused')
    cfg.model_wrapper_cfg = dict(
        type='mmengine.MMDistributedDataParallel', find_unused_parameters=True, device_ids=None
    )
    cfg.model_wrapper_cfg.update(setting)
    for name, value in {'RANK': 0, 'WORLD_SIZE': 1, 'LOCAL_RANK': 0, 'MASTER_ADDR': '127.0.0.1'}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv('MASTER_PORT', free_port())
    try:
        with pytest.raises(ValueError, match='find_unused_parameters=True at the top of the config'):
            train(cfg)
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize('val_loop', ['StitchValLoop', 'ValLoop'])
def test_refuses_strategies_that_shard_parameters(make_config, val_loop):
    cfg = make_config(env_cfg=dict(dist_cfg=dict(backend='gloo')))
    cfg.val_cfg = dict(type=val_loop)
    with pytest.raises(ValueError, match=r'FlexibleRunner and its strategies cannot train .*--launcher pytorch'):
        FlexibleRunner.from_cfg(cfg).train()


def test_refuses_wrappers_that_shard_parameters(make_config):
    runner = build_runner(make_config())

    @MODEL_WRAPPERS.register_module(force=True)
    class Sharded(nn.Module):
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module = module

    runner.model = Sharded(runner.model)
    with pytest.raises(ValueError, match='Sharded cannot train a stitched model'):
        runner.train()
