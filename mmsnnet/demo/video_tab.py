"""The tab of videos: the route changes while one plays, so that the model keeps up."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import gradio as gr

from mmsnnet.demo.choices import Choices
from mmsnnet.demo.image_tab import OPACITY, SAVING
from mmsnnet.demo.predictor import RoutePredictor
from mmsnnet.demo.scatter import STYLE, svg_element
from mmsnnet.demo.video import MAX_FRAMES, Playback, play
from mmsnnet.errors import UserError

# Frames from one drawing of the lines to the next: it takes as long as some frames do.
REDRAW = 20


class VideoTab:
    """Builds the tab into a page of Gradio's, and answers its events."""

    def __init__(self, predictor: RoutePredictor, choices: Choices) -> None:
        self.predictor, self.choices = predictor, choices
        with gr.Row():
            with gr.Column():
                self.source = gr.Video(label='Video', sources=['upload', 'webcam'], height=360, elem_id='source')
                self.rate = gr.Slider(1, 60, 10, step=1, label='Frames a second to keep up with', elem_id='rate')
                self.opacity = gr.Slider(0, 1, OPACITY, step=0.05, label='Opacity')
                run = gr.Button('Run', variant='primary', elem_id='run')
                gr.Markdown(f'The first {MAX_FRAMES} frames are shown, without sound.')
            with gr.Column():
                self.frame = gr.Image(label='Now', interactive=False, format='jpeg', elem_id='frame', buttons=SAVING)
                self.facts = gr.HTML(elem_id='playing')
                self.lines = gr.HTML(css_template=STYLE, elem_id='lines')
                self.result = gr.Video(label='To download', interactive=False, elem_id='played')
        run.click(
            self.play,
            [self.source, self.rate, self.opacity],
            [self.frame, self.facts, self.lines, self.result],
            show_progress='hidden',
        )

    def play(self, source: str | None, fps: float, opacity: float) -> Iterator[tuple]:
        """Show frame after frame, and at the end the video."""
        if source is None:
            raise gr.Error('Choose a video first.', print_exception=False)
        target = Path(tempfile.mkdtemp(dir=self.result.GRADIO_CACHE)) / 'routes.mp4'
        try:
            for playback in play(self.predictor, self.choices, source, target, fps, opacity):
                count = len(playback.records)
                lines = draw_lines(playback, fps) if count % REDRAW == 1 else gr.skip()
                yield playback.image, self._facts(playback), lines, gr.skip()
        except UserError as error:
            raise gr.Error(str(error), print_exception=False) from error
        yield gr.skip(), gr.skip(), draw_lines(playback, fps), str(target)

    def _facts(self, playback: Playback) -> str:
        record, milliseconds = playback.records[-1], playback.milliseconds[-1]
        return f'Frame {len(playback.records)}: <b>{record.name}</b>, {milliseconds:.1f} ms'


def draw_lines(playback: Playback, fps: float) -> str:
    """An SVG image of each frame's rate and of what its route costs."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.5), layout='constrained')
    rates, costs = figure.subplots(2, sharex=True)
    frames = range(1, len(playback.records) + 1)
    rates.plot(frames, [1e3 / milliseconds for milliseconds in playback.milliseconds], color='#0072B2', linewidth=1)
    rates.axhline(fps, color='#D55E00', linestyle='--', linewidth=1)
    rates.set(ylabel='frames a second', ylim=(0, None))
    costs.step(frames, [record.gflops for record in playback.records], where='mid', color='#009E73')
    costs.set(xlabel='frame', ylabel='GFLOPs', ylim=(0, None))
    return svg_element(figure)
