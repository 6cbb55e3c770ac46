"""The page: a tab of pictures, and one of videos."""

from collections.abc import Sequence
from pathlib import Path

import gradio as gr

from mmsnnet.demo.choices import Choices
from mmsnnet.demo.image_tab import ImageTab
from mmsnnet.demo.predictor import RoutePredictor
from mmsnnet.demo.video_tab import VideoTab


def build_page(predictor: RoutePredictor, choices: Choices, examples: Sequence[Path], title: str) -> gr.Blocks:
    """A page of a model's routes.

    Args:
        choices: the routes that can be chosen, with what they cost and score.
        examples: picture files to try.
        title: of the page.
    """
    # Files that visitors gave are deleted after an hour.
    with gr.Blocks(title=title, analytics_enabled=False, delete_cache=(3600, 3600)) as page:
        gr.Markdown(f'# {title}\n{len(choices.records)} routes of one model. Choose what a picture may cost.')
        with gr.Tab('Image'):
            ImageTab(predictor, choices, examples)
        with gr.Tab('Video'):
            VideoTab(predictor, choices)
    return page
