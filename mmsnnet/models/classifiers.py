"""Classification heads that start from the classifiers of timm's models."""

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
        overlay = {'pretrained_cfg_overlay': {'file': file}} if file else {}
        self.timm_args = {**timm_kwargs, **overlay, 'pretrained': True}

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
            classifier = timm.create_model(self.model, **self.timm_args).get_classifier()
        except Exception as error:
            raise UserError(explain(self.model, self.timm_args, error)) from error
        if not isinstance(classifier, nn.Linear):
            raise UserError(f"{self.model!r} has no classifier: leave out init_cfg of type 'TimmClassifier'")
        return classifier
