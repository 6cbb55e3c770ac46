"""A video through a model whose route changes while it plays."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from mmsnnet.demo.choices import Choices
from mmsnnet.demo.predictor import RoutePredictor
from mmsnnet.demo.view import canvas_of, overlay
from mmsnnet.errors import UserError
from mmsnnet.stitching import BudgetController, Record

# Frames of a video that are shown, the first ones.
MAX_FRAMES = 600
# Frames that are not timed, before those that show what a frame takes beside the model.
WARM_UP = 2
MILLISECOND = Fraction(1, 1000)


@dataclass
class Playback:
    """What has been shown of a video.

    Attributes:
        image: the last frame, RGB (h, w, 3).
        records: the route of each frame.
        milliseconds: what each frame took, from the decoded frame to the drawn one.
    """

    image: np.ndarray | None = None
    records: list[Record] = field(default_factory=list)
    milliseconds: list[float] = field(default_factory=list)


def read_video(path: str) -> Iterator[tuple[float, np.ndarray]]:
    """Seconds from the start, and RGB (h, w, 3), uint8, of each frame. A webcam's frames come when they come.

    Raises:
        ValueError: the file is no video.
    """
    import av

    try:
        container = av.open(path)
        stream = container.streams.video[0]
    except (av.FFmpegError, IndexError) as error:
        raise UserError('this file is no video that can be read: try an MP4 or a WebM file') from error
    return _frames(container, 1 / float(stream.average_rate or 25))


def _frames(container: Any, seconds_a_frame: float) -> Iterator[tuple[float, np.ndarray]]:
    import av

    with container:
        try:
            for index, frame in enumerate(container.decode(video=0)):
                seconds = index * seconds_a_frame if frame.time is None else frame.time
                yield seconds, frame.to_ndarray(format='rgb24')
        except av.FFmpegError as error:
            raise UserError('this video is damaged: it cannot be read to its end') from error


class VideoWriter:
    """Writes frames as H.264 in MP4, which browsers play.

    Args:
        path: of the file, which exists after ``close``.
    """

    def __init__(self, path: Path) -> None:
        import av

        self._container = av.open(str(path), 'w', options={'movflags': 'faststart'})
        self._stream = self._container.add_stream('libx264')
        self._stream.codec_context.time_base = MILLISECOND
        self._last = -1
        # The only kind of pixels that all browsers play.
        self._stream.pix_fmt = 'yuv420p'
        self._is_new = True

    def write(self, seconds: float, image: np.ndarray) -> None:
        """Add a frame, RGB (h, w, 3), all of one size, at a time from the start."""
        import av

        # H.264 has even sides.
        height, width = (side // 2 * 2 for side in image.shape[:2])
        if self._is_new:
            self._stream.height, self._stream.width, self._is_new = height, width, False
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image[:height, :width]), format='rgb24')
        # Times must rise.
        self._last = frame.pts = max(round(seconds * 1000), self._last + 1)
        frame.time_base = MILLISECOND
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        if not self._is_new:
            self._container.mux(self._stream.encode())
        self._container.close()


def play(
    predictor: RoutePredictor, choices: Choices, source: str, target: Path, fps: float, opacity: float
) -> Iterator[Playback]:
    """Run a video through a model that holds a frame rate; yields after each frame, and writes the result.

    Args:
        source: file of a video.
        target: file of the result, complete after the last frame.
        fps: frames a second that the model should keep up with.
        opacity: of what is drawn, from 0 to 1.

    Raises:
        ValueError: no latencies in the records; the file is no video, or an empty one.
    """
    if 'latency_ms' not in choices.costs:
        raise UserError('to hold a frame rate, routes need latencies: measure them with tools/benchmark.py --latency')
    frames = read_video(source)
    playback, writer, player = Playback(), VideoWriter(target), Player(predictor, opacity)
    records = list(choices.records.values())
    controller = None
    try:
        for seconds, frame in islice(frames, MAX_FRAMES):
            if controller is None:
                overhead_ms = player.measure_overhead(records, frame)
                controller = BudgetController(records, 1e3 / fps, choices.metric, overhead_ms=overhead_ms)
            record = controller.record
            playback.image, milliseconds = player.show(frame, record)
            writer.write(seconds, playback.image)
            playback.records.append(record)
            playback.milliseconds.append(milliseconds)
            controller.update(milliseconds)
            yield playback
    finally:
        writer.close()
    if not playback.records:
        raise UserError('this video has no frames')


@dataclass
class Player:
    """Draws what routes predict of frames, all depths in the colours of the first frame's."""

    predictor: RoutePredictor
    opacity: float
    depths: tuple[float, float] | None = None

    def show(self, frame: np.ndarray, record: Record) -> tuple[np.ndarray, float]:
        """The drawn frame, and the milliseconds that it took."""
        start = time.perf_counter()
        prediction = self.predictor.predict(self.predictor.prepare(frame), record.id)
        canvas = canvas_of(frame, prediction, self.predictor.meta)
        self.depths = self.depths or canvas.depths
        image = overlay(replace(canvas, depths=self.depths), prediction, self.opacity).image
        return image, (time.perf_counter() - start) * 1e3

    def measure_overhead(self, records: Sequence[Record], frame: np.ndarray) -> float:
        """Milliseconds that a frame takes beyond what was benchmarked."""
        record = min(records, key=lambda record: record.latency_ms)
        times = [self.show(frame, record)[1] for _ in range(WARM_UP + 3)]
        return max(0.0, median(times[WARM_UP:]) - record.latency_ms)
