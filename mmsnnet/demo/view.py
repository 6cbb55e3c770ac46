"""A picture as the page shows it: what a route says drawn over it, and in words."""

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

import cv2
import numpy as np

from mmsnnet.demo.differences import describe_difference
from mmsnnet.demo.predictor import Picture, Prediction
from mmsnnet.evaluation.reports.drawing import Canvas, Drawing, rescale

# Pixels of the longest side of what is drawn.
LONGEST_SIDE = 640


@dataclass
class View:
    """A picture, and how all routes' predictions of it are drawn alike.

    Attributes:
        picture: as it came.
        reference: what the route predicts that the others are compared with.
        canvas: with the colours of the reference: depths of all routes share a scale.
    """

    picture: Picture
    reference: Prediction
    canvas: Canvas

    @classmethod
    def of(cls, picture: Picture, reference: Prediction, meta: Mapping[str, Any]) -> 'View':
        return cls(picture, reference, canvas_of(picture.image, reference, meta))

    def draw(self, prediction: Prediction, opacity: float) -> Drawing:
        return overlay(self.canvas, prediction, opacity)

    def describe(self, prediction: Prediction, words: str, reference_name: str) -> str:
        """HTML of classes and their colours, the words of a drawing, and what changed."""
        change = describe_difference(prediction.sample, self.reference.sample, reference_name)
        return '<br>'.join(filter(None, [self._legend(prediction), escape(words), escape(change)]))

    def _legend(self, prediction: Prediction) -> str:
        """The classes that are seen, each on its colour."""
        names = list(self.canvas.legend.items())
        if not names:
            return ''
        labels = np.unique(prediction.sample.pred_sem_seg.data.numpy())
        seen = [names[label] for label in labels if label < len(names)]
        return ' '.join(
            f'<span class="class"><i style="background:{colour}"></i>{escape(name)}</span>' for name, colour in seen
        )


def canvas_of(image: np.ndarray, prediction: Prediction, meta: Mapping[str, Any]) -> Canvas:
    """To draw predictions of an RGB image (h, w, 3) on, with depths in the colours of this one."""
    return Canvas.over(rescale(image, LONGEST_SIDE), prediction.sample, _with_palette(meta))


def overlay(canvas: Canvas, prediction: Prediction, opacity: float) -> Drawing:
    """A prediction over the picture; the picture alone where words say it all."""
    image, words = canvas.draw_prediction(prediction.sample)
    if image is None:
        return Drawing(canvas.image, words)
    return Drawing(cv2.addWeighted(image, opacity, canvas.image, 1 - opacity, 0), words)


def _with_palette(meta: Mapping[str, Any]) -> dict[str, Any]:
    """With a colour for each class, where the data set has none."""
    classes = meta.get('classes') or ()
    if len(meta.get('palette') or ()) >= len(classes):
        return dict(meta)
    palette = np.random.default_rng(0).integers(32, 224, (len(classes), 3)).tolist()
    return {**meta, 'palette': palette}
