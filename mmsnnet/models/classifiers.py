"""Classification heads that start from the classifiers of timm's models."""

from collections.abc import Mapping

import timm
import torch
from torch import nn

from mmsnnet.errors import UserError
from mmsnnet.models.anchors import check_local_files, explain
from mmsnnet.registry import WEIGHT_INITIALIZERS, register


@register(WEIGHT_INITIALIZERS)
class TimmClassifier:
    """The classifier of a timm model as ``init_cfg`` of a head that ends in a linear layer, as ``LinearClsHead``.

    Args:
        model: a name that timm knows, with its weights' tag.
        file: of the model's weights; default: timm downloads them.
        **timm_kwargs: other arguments of ``timm.create_model``, as the anchor has them.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the model has no classifier, or its classes or width are not the head's.
    """

    def __init__(self, model: str, file: str | None = None, **timm_kwargs) -> None:
        self.model = model
        self.timm_args = pretrained_args(file, timm_kwargs)

    @torch.no_grad()
    def __call__(self, head: nn.Module) -> None:
        """Load into a head."""
        *_, linear = (module for module in head.modules() if isinstance(module, nn.Linear))
        classifier = self._classifier()
        if classifier.weight.shape != linear.weight.shape:
            given, wanted = (tuple(layer.weight.shape) for layer in (classifier, linear))
            raise UserError(
                f'the classifier of {self.model!r} is for (classes, channels) {given}, the head for {wanted}: '
                "leave out its init_cfg of type 'TimmClassifier' to start from random weights"
            )
        linear.load_state_dict(classifier.state_dict())

    def _classifier(self) -> nn.Linear:
        check_local_files(self.model, self.timm_args)
        try:
            model = timm.create_model(self.model, **self.timm_args)
        except Exception as error:
            raise UserError(explain(self.model, self.timm_args, error)) from error
        check_classes(self.model, model)
        classifier = model.get_classifier()
        if not isinstance(classifier, nn.Linear):
            raise UserError(f"{self.model!r} has no classifier: leave out init_cfg of type 'TimmClassifier'")
        return classifier


def pretrained_args(file: str | None, timm_kwargs: Mapping) -> dict:
    """Arguments of ``timm.create_model`` for a classifier with its weights, all of them from a file if one is named."""
    arguments = {**timm_kwargs, 'pretrained': True}
    if file:
        arguments['pretrained_cfg_overlay'] = {**(timm_kwargs.get('pretrained_cfg_overlay') or {}), 'file': file}
        if 'num_classes' in timm_kwargs:
            arguments['pretrained_cfg_overlay']['num_classes'] = timm_kwargs['num_classes']
    return arguments


def check_classes(name: str, model: nn.Module) -> None:
    """Refuse a timm model for other classes than its weights: its classifier is random.

    Raises:
        ValueError: with both numbers.
    """
    num_classes = model.pretrained_cfg['num_classes']
    if model.num_classes != num_classes:
        raise UserError(
            f'the weights of {name!r} are for {num_classes} classes, not {model.num_classes}: leave out num_classes, '
            'or name weights for your classes as file=PATH'
        )
