"""Any route of a stitched model, on pictures in memory."""

import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod
from threading import Lock
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import DATASETS, DefaultScope, init_default_scope
from mmengine.structures import BaseDataElement

from mmsnnet.building import LOADING_TRUTH, build_model, load_weights
from mmsnnet.engine.runners import configured_input_shape
from mmsnnet.errors import UserError
from mmsnnet.models import find_backbone, folded_updates
from mmsnnet.settings import name_of_type

# Pixels of an input, at most, in multiples of those that costs are measured at.
MAX_EXCESS = 4
LOADING_PICTURE = ('LoadImageFromFile', 'LoadImageFromNDArray')


@dataclass
class Picture:
    """A picture, ready for every route.

    Attributes:
        image: RGB (h, w, 3), uint8.
        inputs: what the model's data preprocessor has made of it.
        samples: one, without predictions.
    """

    image: np.ndarray
    inputs: torch.Tensor
    samples: list[BaseDataElement]


@dataclass
class Prediction:
    """What a route says of a picture, and how many milliseconds the model took."""

    route: int
    sample: BaseDataElement
    milliseconds: float


class RoutePredictor:
    """A trained stitched model that predicts by any of its routes. Threads take turns.

    Args:
        cfg: of MMSegmentation, MMDetection or MMPretrain, with a ``test_dataloader``.
        checkpoint: file with all of its weights.
        device: 'cpu', 'cuda:0', ...

    Attributes:
        meta: the data set's ``classes`` and ``palette``, where they are known.

    Raises:
        FileNotFoundError: no such checkpoint.
        ValueError: it is of another model; the model is not stitched; the config says nothing of test images.
    """

    def __init__(self, cfg: Config, checkpoint: str, device: str = 'cpu') -> None:
        if 'anchors' not in cfg.model.get('backbone', {}):
            raise UserError('the demo shows routes of a stitched model, and this config has none: see tools/stitch.py')
        self.scope = cfg.get('default_scope', 'mmengine')
        self.model = build_model(cfg)
        saved = load_weights(self.model, checkpoint)
        self.model.to(device).eval()
        self.backbone = find_backbone(self.model)
        dataset = (cfg.get('test_dataloader') or {}).get('dataset') or {}
        steps = dataset.get('pipeline') or ()
        if not steps:
            raise UserError('the config does not say how to prepare pictures: set test_dataloader.dataset.pipeline')
        self.meta = saved.get('dataset_meta') or data_set_meta(dataset)
        self._is_float = any(step.get('to_float32') for step in steps)
        unneeded = LOADING_PICTURE + LOADING_TRUTH
        self._pipeline = Compose([step for step in steps if name_of_type(step['type']) not in unneeded])
        self._max_pixels = MAX_EXCESS * prod(configured_input_shape(self.model, cfg))
        self._lock = Lock()
        # As fast as exported routes, for as long as this lives.
        self._folded = ExitStack()
        self._folded.enter_context(folded_updates(self.model))

    @torch.no_grad()
    def prepare(self, image: np.ndarray) -> Picture:
        """Run the config's test pipeline and the data preprocessor on an RGB image (h, w, 3), uint8.

        A picture from which the pipeline makes a much larger input than costs are measured at is made smaller: a model
        would take minutes for it.
        """
        pixels = np.ascontiguousarray(image[..., ::-1], np.float32 if self._is_float else np.uint8)
        with self._lock:
            self._enter_scope()
            packed = self._pack(pixels)
            excess = prod(packed['inputs'].shape[-2:]) / self._max_pixels
            if excess > 1:
                packed = self._pack(
                    cv2.resize(pixels, None, fx=excess**-0.5, fy=excess**-0.5, interpolation=cv2.INTER_AREA)
                )
            batch = {'inputs': [packed['inputs']], 'data_samples': [packed['data_samples']]}
            data = self.model.data_preprocessor(batch, False)
        return Picture(image, data['inputs'], data['data_samples'])

    def _pack(self, pixels: np.ndarray) -> dict[str, Any]:
        """What the test pipeline makes of an image (h, w, 3), blue first."""
        size = pixels.shape[:2]
        return self._pipeline({'img': pixels, 'img_shape': size, 'ori_shape': size, 'img_path': 'picture', 'img_id': 0})

    @torch.no_grad()
    def predict(self, picture: Picture, route: int) -> Prediction:
        """What a route, by its id, predicts of a picture; the result lies on the CPU."""
        # Models write into the samples that they are given.
        samples = [sample.clone() for sample in picture.samples]
        with self._lock:
            self._enter_scope()
            self.backbone.set_route(route)
            start = time.perf_counter()
            (sample,) = self.model(picture.inputs, samples, mode='predict')
            # Copying waits until the device is done.
            sample = sample.cpu()
            milliseconds = (time.perf_counter() - start) * 1e3
        return Prediction(route, sample, milliseconds)

    def _enter_scope(self) -> None:
        """OpenMMLab's registries look into a library of the thread."""
        if DefaultScope.get_current_instance() is None:
            init_default_scope(self.scope)


def data_set_meta(dataset: Mapping) -> dict[str, Any]:
    """Classes and palette of the data set of a config; empty where it names none."""
    kind = DATASETS.get(dataset['type']) if isinstance(dataset['type'], str) else dataset['type']
    meta = {**getattr(kind, 'METAINFO', {}), **(dataset.get('metainfo') or {})}
    return meta | ({'classes': dataset['classes']} if dataset.get('classes') else {})
