"""Teachers: frozen classifiers of timm that say what is in an image while another model trains."""

from collections.abc import Sequence

import timm
from torch import nn

from mmsnnet.errors import UserError
from mmsnnet.files import check_file
from mmsnnet.models.classifiers import check_classes, pretrained_args


def create_teacher(model: str, file: str | None = None, **timm_kwargs) -> nn.Module:
    """A timm classifier with its weights, frozen and in evaluation mode.

    Args:
        model: a name that timm knows, with its weights' tag.
        file: of the model's weights, all of them; default: timm downloads them.
        **timm_kwargs: other arguments of ``timm.create_model``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: timm cannot make this model.
    """
    arguments = pretrained_args(file and check_file(file, 'weight file of the teacher'), timm_kwargs)
    try:
        teacher = timm.create_model(model, **arguments)
    # Not only what timm raises: downloads fail in many ways.
    except Exception as error:
        reason = ' '.join(f'{type(error).__name__}: {error}'.split())
        raise UserError(
            f'timm cannot create the teacher {model!r} with {arguments}: {reason:.300} '
            '(weights from a local file: teacher=dict(model=NAME, file=PATH))'
        ) from error
    check_classes(model, teacher)
    return teacher.eval().requires_grad_(False)


def check_teacher(teacher: nn.Module, num_classes: int, mean: Sequence[float], std: Sequence[float]) -> None:
    """Refuse a teacher that knows other classes than a model, or wants images in another way.

    Args:
        num_classes: of the model.
        mean, std: what the model's images are normalised by, for pixels from 0 to 255.

    Raises:
        ValueError: with what both have.
    """
    if teacher.num_classes != num_classes:
        raise UserError(
            f'the teacher has {teacher.num_classes} classes, the head {num_classes}: choose a teacher that was trained '
            'on the same classes'
        )
    wanted = [255 * value for name in ('mean', 'std') for value in teacher.pretrained_cfg[name]]
    given = [*mean, *std]
    if len(given) != len(wanted) or any(abs(one - other) > 0.1 for one, other in zip(given, wanted, strict=True)):
        mean_std = [[round(value, 2) for value in values] for values in (wanted, given)]
        raise UserError(
            'the teacher wants images normalised by mean and std {}, data_preprocessor normalises by {}: choose a '
            'teacher that wants them as the model does'.format(*mean_std)
        )
