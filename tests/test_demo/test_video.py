"""Videos through a model: H.264 comes out, and the route changes with the time that frames take."""

from dataclasses import replace

import av
import numpy as np
import pytest
from toy_demo import make_records

from mmsnnet.demo import Choices
from mmsnnet.demo.video import Player, VideoWriter, play, read_video
from mmsnnet.errors import UserError

# Ten frames in four seconds, as a webcam gives them.
SECONDS = [0, 0.1, 0.3, 0.8, 1, 1.5, 2, 2.7, 3, 4]
FRAMES = [np.full((41, 51, 3), 20 * index, np.uint8) for index in range(10)]


@pytest.fixture
def video(tmp_path):
    writer = VideoWriter(tmp_path / 'video.mp4')
    for seconds, frame in zip(SECONDS, FRAMES, strict=True):
        writer.write(seconds, frame)
    writer.close()
    return tmp_path / 'video.mp4'


def test_what_is_written_is_h264_that_browsers_play(video):
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ('h264', 'yuv420p')
    times, frames = zip(*read_video(str(video)), strict=True)
    assert times == pytest.approx(SECONDS, abs=2e-3)
    assert [frame.shape for frame in frames] == [(40, 50, 3)] * 10
    assert [frame.mean() for frame in frames] == pytest.approx([20 * index for index in range(10)], abs=4)


def test_a_video_is_shown_frame_by_frame(make_predictor, video, tmp_path):
    predictor = make_predictor('segmentation')
    choices = Choices(make_records(predictor))
    counts = [
        len(playback.records)
        for playback in play(predictor, choices, str(video), tmp_path / 'out.mp4', fps=1e-3, opacity=0.5)
    ]
    assert counts == list(range(1, 11))
    times, frames = zip(*read_video(str(tmp_path / 'out.mp4')), strict=True)
    assert times == pytest.approx(SECONDS, abs=2e-3)
    # Brighter and brighter, below classes of the same opacity.
    assert frames[9].mean() - frames[0].mean() == pytest.approx(90, abs=10)


@pytest.mark.parametrize(('fps', 'first'), [(1e-3, 'best'), (1e5, 'cheapest')])
def test_the_route_is_the_best_that_keeps_up(make_predictor, video, tmp_path, fps, first):
    predictor = make_predictor('segmentation')
    choices = Choices(make_records(predictor))
    *_, playback = play(predictor, choices, str(video), tmp_path / 'out.mp4', fps, opacity=0.5)
    ids = sorted(choices.records)
    assert {record.id for record in playback.records} == {ids[-1] if first == 'best' else ids[0]}


def test_depths_of_a_video_share_the_first_frames_scale(make_predictor):
    predictor = make_predictor('depth')
    player, record = Player(predictor, opacity=1), make_records(predictor, 'd1')[0]
    noise = np.random.default_rng(0).integers(0, 255, (2, 96, 128, 3), np.uint8)
    first, _ = player.show(noise[0], record)
    second, _ = player.show(noise[1], record)
    alone, _ = Player(predictor, opacity=1).show(noise[1], record)
    assert first.shape == (480, 640, 3)
    assert (second != alone).any()


def test_refuses_what_is_no_video_and_routes_without_latency(make_predictor, video, tmp_path):
    predictor = make_predictor('segmentation')
    records = make_records(predictor)
    (tmp_path / 'broken.mp4').write_bytes(b'no video')
    (tmp_path / 'cut.mp4').write_bytes(video.read_bytes()[:200])
    for name in ('broken', 'cut'):
        with pytest.raises(UserError, match='no video that can be read'):
            list(play(predictor, Choices(records), str(tmp_path / f'{name}.mp4'), tmp_path / 'out.mp4', 10, 0.5))
    untimed = Choices([replace(record, latency_ms=None) for record in records])
    with pytest.raises(UserError, match='--latency'):
        list(play(predictor, untimed, str(video), tmp_path / 'out.mp4', 10, 0.5))
