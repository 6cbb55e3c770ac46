"""Taking a route away as a model of its own: a slim checkpoint and config, an ONNX file, an exported program."""

import copy
from collections.abc import Callable
from pathlib import Path

import torch
from mmengine.config import Config
from torch import Tensor, nn

from mmsnnet.building import forget_truth
from mmsnnet.errors import UserError
from mmsnnet.files import write_file
from mmsnnet.models import locate_backbone, route_state_dict
from mmsnnet.models.exits import heads_of_exit
from mmsnnet.models.tasks import task_of
from mmsnnet.models.weights import PRETRAINED_ARGS
from mmsnnet.settings import is_named
from mmsnnet.stitching import Route

# The hook that only the training of a stitched model needs.
STITCHING_HOOK = 'StitchSamplingHook'
PER_EXIT = 'PerExit'
# Settings of a StitchedViT and of a PerExit that a single route does not have.
TRAINING_SETTINGS = (
    'lora_rank', 'exact', 'adapter_rank', 'own_tunings', 'frozen_anchors', 'compile_blocks', 'init_cfg'
)  # fmt: skip
PER_EXIT_SETTINGS = ('type', 'heads', 'exact', 'own_tunings', 'init_cfg')


def slim_config(cfg: Config, route: Route) -> Config:
    """The config of one route alone: plain loops, no stitching hook, no auxiliary heads."""
    cfg = copy.deepcopy(cfg)
    backbone = cfg.model.backbone
    for anchor in backbone.anchors:
        for key in ('init_cfg', *PRETRAINED_ARGS):
            anchor.pop(key, None)
    for key in TRAINING_SETTINGS:
        backbone.pop(key, None)
    backbone.type, backbone.route = 'mmsnnet.RouteViT', route.name
    if 'auxiliary_head' in cfg.model:
        cfg.model.auxiliary_head = None
    # The weights come with the checkpoint.
    cfg.model.pop('init_cfg', None)
    for name, part in cfg.model.items():
        if isinstance(part, list):
            cfg.model[name] = [_of_exit(each, route.spans[-1].anchor) for each in part]
        elif isinstance(part, dict):
            cfg.model[name] = _of_exit(part, route.spans[-1].anchor)
    cfg.custom_hooks = [hook for hook in cfg.get('custom_hooks', []) if not is_named(hook, STITCHING_HOOK)]
    for key, loop in (('val_cfg', 'ValLoop'), ('test_cfg', 'TestLoop')):
        if cfg.get(key):
            # MMEngine's own loops know one setting.
            cfg[key] = {'type': loop, **({'fp16': True} if cfg[key].get('fp16') else {})}
    cfg.load_from = None
    forget_truth(cfg)
    return cfg


def _of_exit(part: dict, anchor: int) -> dict:
    """The config of a neck or head at one exit, which loads nothing."""
    if is_named(part, PER_EXIT):
        common = {key: value for key, value in part.items() if key not in PER_EXIT_SETTINGS}
        part = type(part)({**part['heads'][anchor], **common})
    part.pop('init_cfg', None)
    return part


def slim_state_dict(model: nn.Module, route: Route) -> dict[str, Tensor]:
    """Weights of a model for one route: what it needs of the backbone, and of neck and heads but auxiliary ones."""
    prefix, backbone = locate_backbone(model)
    weights = {
        name: value
        for name, value in model.state_dict().items()
        if not name.startswith((prefix, 'auxiliary_head.', 'data_preprocessor.'))
    }
    for name, head in heads_of_exit(model, backbone.plan_of(route)[-1].exit).items():
        kept = {key.replace(head, name, 1): value for key, value in weights.items() if key.startswith(f'{head}.')}
        weights = {key: value for key, value in weights.items() if not key.startswith(f'{name}.')} | kept
    return weights | {prefix + name: value for name, value in route_state_dict(backbone, route).items()}


def write_checkpoint(weights: dict[str, Tensor], meta: dict, path: Path) -> Path:
    """Write a checkpoint that MMEngine loads, and ``torch.load(weights_only=True)`` too."""
    content = {'state_dict': {name: value.cpu() for name, value in weights.items()}, 'meta': meta}
    return write_file(path, lambda partial: torch.save(content, partial))


class Predictor(nn.Module):
    """A model as a function of preprocessed images (B, 3, H, W), which gives logits, or depth in metres.

    Raises:
        ValueError: when it is called, the model is no segmentor, depth estimator or classifier.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model.eval()

    def forward(self, images: Tensor) -> Tensor:
        return task_of(self.model).logits(images)


def export_onnx(predictor: Predictor, images: Tensor, path: Path, dynamic_batch: bool) -> Callable[[Tensor], Tensor]:
    """Write an ONNX file; returns it as a function, run by onnxruntime.

    Args:
        images: (B, 3, H, W); their height and width are fixed in the file, B too unless ``dynamic_batch``.

    Raises:
        ValueError: the packages for it are not installed.
    """
    try:
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(f"ONNX files need {error.name}: pip install -e '.[export]' -c constraints.txt") from error
    program = torch.onnx.export(
        predictor,
        (images,),
        input_names=['images'],
        output_names=[task_of(predictor.model).output_name],
        dynamic_shapes=({0: torch.export.Dim('batch')},) if dynamic_batch else None,
        dynamo=True,
        verbose=False,
    )
    write_file(path, lambda partial: program.save(partial, external_data=False))
    session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
    return lambda images: torch.from_numpy(session.run(None, {'images': images.cpu().numpy()})[0])


def export_program(predictor: Predictor, images: Tensor, path: Path) -> Callable[[Tensor], Tensor]:
    """Write a program of ``torch.export`` for any batch size; returns what loads from it."""
    with torch.no_grad():
        program = torch.export.export(predictor, (images,), dynamic_shapes=({0: torch.export.Dim('batch')},))
    write_file(path, lambda partial: torch.export.save(program, partial))
    return torch.export.load(path).module()
