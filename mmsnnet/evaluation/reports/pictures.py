"""Pictures of an HTML page: images and what every route predicts of them, small enough for one file."""

import base64
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from mmengine.structures import BaseDataElement

from mmsnnet.errors import UserError
from mmsnnet.evaluation.reports.drawing import LONGEST_SIDE, Canvas, Drawing, rescale
from mmsnnet.stitching import Route


class Quality(NamedTuple):
    """Of a WebP image."""

    longest_side: int
    percent: int


# From the best to the worst that still shows something.
QUALITIES = (
    Quality(LONGEST_SIDE, 80),
    Quality(LONGEST_SIDE, 50),
    Quality(240, 50),
    Quality(160, 50),
    Quality(120, 30),
)


class Shown(NamedTuple):
    """What to show: the place of an image among a page's images, None for none, and words."""

    image: int | None
    text: str


@dataclass
class Picture:
    """One image, the truth and, by id, the predictions of routes."""

    name: str
    image: int
    truth: Shown | None
    routes: dict[int, Shown] = field(default_factory=dict)


@dataclass
class Pictures:
    """Of a page.

    Attributes:
        images: as data URIs.
        legend: colours of classes, as ``#rrggbb``; empty if the pictures do not show classes by colour.
        quality: of the images.
    """

    pictures: list[Picture]
    images: list[str]
    legend: dict[str, str]
    quality: Quality


def draw_pictures(
    predictions: Iterable[tuple[Route, BaseDataElement]], meta: Mapping[str, Any], max_mb: float
) -> Pictures:
    """Draw what routes predict, as well as ``max_mb`` allows.

    Args:
        predictions: of one image after the other: of all routes of the first, then of the second, ...
        meta: the data set's ``classes`` and ``palette``.
        max_mb: of all that the page holds of them: images, words and the colours of classes.

    Raises:
        ValueError: the pictures do not fit at any quality; says how many do.
    """
    images, pictures, legend = _Images(max_mb), [], {}
    try:
        for path, group in groupby(predictions, lambda prediction: prediction[1].get('img_path')):
            canvas = None
            for route, sample in group:
                if canvas is None:
                    canvas = Canvas.of(sample, meta)
                    if not pictures:
                        legend = canvas.legend
                        images.reserve(legend)
                    truth = _shown(canvas.draw_truth(sample), images)
                    picture = Picture(Path(path).stem, images.add(canvas.image), truth)
                picture.routes[route.id] = _shown(canvas.draw_prediction(sample), images)
            images.reserve(asdict(picture))
            pictures.append(picture)
    except _FullError:
        raise UserError(_advice(len(pictures), max_mb)) from None
    return Pictures(pictures, images.best(), legend, images.quality)


class _FullError(Exception):
    """Images do not fit."""


class _Images:
    """Images at every quality that has not yet grown too large."""

    def __init__(self, max_mb: float) -> None:
        self.max_bytes = max_mb * 1e6
        self.by_quality: dict[Quality, list[str]] = {quality: [] for quality in QUALITIES}
        self.bytes = dict.fromkeys(QUALITIES, 0)

    def add(self, image: np.ndarray) -> int:
        """The place of an RGB image (h, w, 3) among the images."""
        for quality, uris in self.by_quality.items():
            uris.append(_data_uri(image, quality))
            self.bytes[quality] += _json_bytes(uris[-1])
        self._drop_too_large()
        return len(self.best()) - 1

    def reserve(self, data: Any) -> None:
        """Leave room for what the page holds besides images."""
        self.max_bytes -= _json_bytes(data)
        self._drop_too_large()

    def _drop_too_large(self) -> None:
        self.by_quality = {
            quality: uris for quality, uris in self.by_quality.items() if self.bytes[quality] <= self.max_bytes
        }
        if not self.by_quality:
            raise _FullError

    @property
    def quality(self) -> Quality:
        return next(iter(self.by_quality))

    def best(self) -> list[str]:
        return self.by_quality[self.quality]


def _shown(drawing: Drawing | None, images: _Images) -> Shown | None:
    if drawing is None:
        return None
    return Shown(None if drawing.image is None else images.add(drawing.image), drawing.text)


def _json_bytes(data: Any) -> int:
    """Of data as one item of a list in the page."""
    from jinja2.utils import htmlsafe_json_dumps

    return len(htmlsafe_json_dumps(data)) + len(', ')


def _data_uri(image: np.ndarray, quality: Quality) -> str:
    small = cv2.cvtColor(rescale(image, quality.longest_side, 'area'), cv2.COLOR_RGB2BGR)
    _, content = cv2.imencode('.webp', small, [cv2.IMWRITE_WEBP_QUALITY, quality.percent])
    return f'data:image/webp;base64,{base64.b64encode(content).decode()}'


def _advice(fitting: int, max_mb: float) -> str:
    instead = f'ask for --pictures {fitting}' if fitting else 'leave --pictures out'
    return (
        f'the pictures of all routes do not fit into {max_mb:.2g} MB, those of {fitting} images do: {instead}; with '
        '--resume, nothing is evaluated again'
    )
