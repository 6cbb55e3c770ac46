"""The tab of pictures: a budget, the route within it, and what that route says."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image, UnidentifiedImageError

from mmsnnet.demo.choices import Choices
from mmsnnet.demo.predictor import Prediction, RoutePredictor
from mmsnnet.demo.scatter import ON_LOAD, STYLE, draw_scatter, mark
from mmsnnet.demo.view import View
from mmsnnet.evaluation.reports.plots import COST_LABELS
from mmsnnet.stitching import Record

CSS = """
.class { display: inline-block; margin-right: .8em; white-space: nowrap }
.class i { display: inline-block; width: .9em; height: .9em; margin-right: .3em; vertical-align: -.1em;
  border: 1px solid #8888 }
footer { display: none !important }
"""
OPACITY = 0.6
# Of a picture that is predicted: some models see it as large as it is.
MAX_MEGAPIXELS = 25
TOO_LARGE = f'This picture has more than {MAX_MEGAPIXELS} million pixels: make it smaller.'
# Of an image. Gradio's third one sends it to a server of theirs.
SAVING = ['download', 'fullscreen']


@dataclass
class Visit:
    """What a visitor looks at: a route, and a picture with what the route says of it."""

    record: Record
    view: View | None = None
    prediction: Prediction | None = None


class ImageTab:
    """Builds the tab into a page of Gradio's, and answers its events."""

    def __init__(self, predictor: RoutePredictor, choices: Choices, examples: Sequence[Path]) -> None:
        self.predictor, self.choices = predictor, choices
        self._scatters = {cost: draw_scatter(choices, cost) for cost in choices.costs}
        self._labels = {COST_LABELS[cost]: cost for cost in choices.costs}
        self._names = {record.name: record for record in choices.records.values()}
        first_label, first = next(iter(self._labels.items()))
        low, high = choices.limits(first)
        start = Visit(choices.best(first, high))
        self.visit = gr.State(start)
        with gr.Row():
            with gr.Column():
                self.image = gr.Image(
                    label='Picture', sources=['upload', 'webcam', 'clipboard'], height=360, elem_id='picture'
                )
                _explain_refusals(self.image)
                if examples:
                    gr.Examples([[str(path)] for path in examples], self.image, examples_per_page=8, elem_id='examples')
                self.cost = gr.Radio(list(self._labels), value=first_label, label='Budget in', elem_id='cost')
                self.budget = gr.Slider(**choices.slider(first), label='Budget', elem_id='budget')
                self.opacity = gr.Slider(0, 1, OPACITY, step=0.05, label='Opacity', elem_id='opacity')
            with gr.Column():
                self.result = gr.Image(
                    label='What the route says', interactive=False, format='jpeg', elem_id='result', buttons=SAVING
                )
                self.mark = gr.HTML(mark(start.record.id))
                self.facts = gr.HTML('<br>'.join(self._facts(start.record)), elem_id='facts')
                self.scatter = gr.HTML(
                    self._scatters[first],
                    css_template=STYLE + 'svg { cursor: pointer }',
                    js_on_load=ON_LOAD,
                    elem_id='scatter',
                )
        with gr.Accordion('Compare two routes', open=False, elem_id='compare'):
            with gr.Row():
                names = list(self._names)
                self.left = gr.Dropdown(names, value=choices.largest.name, label='Left', elem_id='left')
                self.right = gr.Dropdown(names, value=choices.best(first, low).name, label='Right', elem_id='right')
            self.both = gr.ImageSlider(
                label='Left and right of the divider', interactive=False, format='jpeg', elem_id='both', buttons=SAVING
            )
        self._listen()

    def _listen(self) -> None:
        """Connect events and answers. Of events that come while one is answered, only the last one counts."""
        shown = [self.visit, self.result, self.facts, self.mark]
        compared = {'fn': self.compare, 'inputs': [self.visit, self.left, self.right, self.opacity]}
        # Not through Gradio's queue, which takes longer than the answer. The predictor lets visitors take turns.
        quick = {'show_progress': 'hidden', 'trigger_mode': 'always_last', 'queue': False}
        self.image.change(self.open, [self.image, self.visit, self.opacity], shown, show_progress='minimal').then(
            **compared, outputs=self.both
        )
        self.budget.input(self.spend, [self.visit, self.cost, self.budget, self.opacity], shown, **quick)
        self.cost.input(self.count_in, [self.visit, self.cost], [self.budget, self.scatter], **quick)
        self.scatter.click(self.choose, [self.visit, self.cost, self.opacity], [*shown, self.budget], **quick)
        self.opacity.input(self.blend, [self.visit, self.opacity], self.result, **quick)
        for changed in (self.left, self.right):
            changed.input(**compared, outputs=self.both, **quick)

    def open(self, image: np.ndarray | None, visit: Visit, opacity: float) -> tuple:
        """Show a picture; None takes the last one away."""
        if image is None:
            visit = Visit(visit.record)
        else:
            picture = self.predictor.prepare(image)
            reference = self.predictor.predict(picture, self.choices.largest.id)
            visit = replace(visit, view=View.of(picture, reference, self.predictor.meta))
        return self._show(visit, opacity)

    def spend(self, visit: Visit, label: str, budget: float, opacity: float) -> tuple:
        """Show what the best route within a budget says."""
        return self._show(replace(visit, record=self.choices.best(self._labels[label], budget)), opacity)

    def choose(self, visit: Visit, label: str, opacity: float, click: gr.EventData) -> tuple:
        """Show what a route says that was clicked on, and move the budget to its cost."""
        record = self.choices.records[int(click.route)]
        budget = self.choices.slider(self._labels[label], record)['value']
        return *self._show(replace(visit, record=record), opacity), budget

    def count_in(self, visit: Visit, label: str) -> tuple:
        """Let the slider and the scatter be over another cost; the route stays."""
        cost = self._labels[label]
        slider = gr.Slider(**self.choices.slider(cost, visit.record))
        return slider, self._scatters[cost]

    def blend(self, visit: Visit, opacity: float) -> np.ndarray | None:
        """Draw the same prediction more or less opaque."""
        return visit.view.draw(visit.prediction, opacity).image if visit.view else None

    def compare(self, visit: Visit, left: str, right: str, opacity: float) -> tuple | None:
        """What two routes say of the picture."""
        if visit.view is None:
            return None
        records = (self._names[left], self._names[right])
        predictions = (self.predictor.predict(visit.view.picture, record.id) for record in records)
        return tuple(visit.view.draw(prediction, opacity).image for prediction in predictions)

    def _show(self, visit: Visit, opacity: float) -> tuple:
        """The visit with a prediction by its route, the drawn picture, words, and the mark of the route."""
        lines, drawn = self._facts(visit.record), None
        if visit.view is not None:
            prediction = self.predictor.predict(visit.view.picture, visit.record.id)
            drawn, words = visit.view.draw(prediction, opacity)
            visit = replace(visit, prediction=prediction)
            lines.append(f'{prediction.milliseconds:.1f} ms for this picture, just now')
            lines.append(visit.view.describe(prediction, words, self.choices.largest.name))
        return visit, drawn, '<br>'.join(lines), mark(visit.record.id)

    def _facts(self, record: Record) -> list[str]:
        """Lines of HTML: a route, and what it costs and scored."""
        return [f'<b>{escape(record.name)}</b>', escape(self.choices.describe(record))]


def _explain_refusals(image: gr.Image) -> None:
    """Let an upload that cannot be read, or is too large, give a message.

    Not by a subclass: for one, Gradio writes a file beside the module.
    """
    preprocess = image.preprocess

    def guarded(payload: Any) -> np.ndarray | None:
        try:
            pixels = preprocess(payload)
        except (UnidentifiedImageError, OSError) as error:
            raise gr.Error(
                'This file is no picture that can be read: try a JPEG or PNG file.', print_exception=False
            ) from error
        except Image.DecompressionBombError as error:
            raise gr.Error(TOO_LARGE, print_exception=False) from error
        if pixels is not None and pixels.shape[0] * pixels.shape[1] > MAX_MEGAPIXELS * 1e6:
            raise gr.Error(TOO_LARGE, print_exception=False)
        return pixels

    image.preprocess = guarded
