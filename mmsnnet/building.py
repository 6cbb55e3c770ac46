"""Models and runners from configs."""

import os
import subprocess

import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, RUNNERS, init_default_scope
from mmengine.runner import Runner
from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn

from mmsnnet.errors import UserError
from mmsnnet.files import check_file
from mmsnnet.models import find_mismatch
from mmsnnet.models.weights import PRETRAINED_ARGS, weights_in
from mmsnnet.settings import is_named, name_of_type

# Steps of a pipeline that need more than a picture.
LOADING_TRUTH = ('LoadAnnotations', 'LoadDepthAnnotation')


def build_model(cfg: Config) -> nn.Module:
    """The model of a config, with random weights."""
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    forget_pretrained(cfg.model)
    if cfg.get('data_preprocessor') is not None:
        # MMEngine's runner takes it from here, too.
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    return MODELS.build(cfg.model)


def forget_pretrained(model: ConfigDict) -> None:
    """Let no anchor load pretrained weights, and no teacher: a checkpoint will bring all that is needed."""
    if is_named(model, 'TaughtClassifier'):
        model.pop('teacher', None)
    backbone = model.get('backbone', {})
    for anchor in filter(None, [*backbone.get('anchors', []), backbone.get('anchor')]):
        for argument in PRETRAINED_ARGS:
            anchor.pop(argument, None)


def forget_truth(cfg: Config) -> None:
    """Let ``test_pipeline``, which MMSegmentation's inference runs on pictures, load no truth.

    That inference leaves out labels of pixels alone, and stops where it finds no depth map.
    """
    if cfg.get('test_pipeline'):
        cfg.test_pipeline = [step for step in cfg.test_pipeline if name_of_type(step['type']) not in LOADING_TRUTH]


def load_weights(model: nn.Module, checkpoint: str) -> dict:
    """Load all weights of a checkpoint's model; returns the checkpoint's ``meta``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the checkpoint is of another model.
    """
    content = CheckpointLoader.load_checkpoint(check_file(checkpoint, 'checkpoint'), map_location='cpu')
    weights = weights_in(content)
    problem = find_mismatch(model.state_dict(), weights)
    if problem:
        raise UserError(f'{checkpoint} is of another architecture than this config: {problem}')
    model.load_state_dict(weights)
    return content.get('meta', {})


def build_runner(cfg: Config) -> Runner:
    """The runner of a config, of its own ``runner_type`` where it has one."""
    if cfg.get('launcher') in ('pytorch', 'slurm') and not torch.cuda.is_available():
        _use_cpus(cfg)
    return RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)


def _use_cpus(cfg: Config) -> None:
    """Let ranks run on CPUs; MMEngine by itself chooses GPUs."""
    if cfg.launcher == 'slurm':
        _name_slurm_ranks()
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group('gloo')
    if not cfg.get('model_wrapper_cfg'):
        cfg.model_wrapper_cfg = {
            'type': 'mmengine.MMDistributedDataParallel',
            'find_unused_parameters': cfg.get('find_unused_parameters', False),
            'broadcast_buffers': False,
            'device_ids': None,
        }


def _name_slurm_ranks() -> None:
    """Tell PyTorch in its own variables which rank of a Slurm job this is."""
    if 'MASTER_ADDR' not in os.environ:
        command = ['scontrol', 'show', 'hostnames', os.environ['SLURM_NODELIST']]
        os.environ['MASTER_ADDR'] = subprocess.check_output(command, text=True).split()[0]
    os.environ.setdefault('MASTER_PORT', '29500')
    for name, slurm_name in (('RANK', 'PROCID'), ('WORLD_SIZE', 'NTASKS'), ('LOCAL_RANK', 'LOCALID')):
        os.environ[name] = os.environ[f'SLURM_{slurm_name}']
