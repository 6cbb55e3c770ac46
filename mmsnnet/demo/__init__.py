"""A page in the browser that shows what the routes of a model do, with Gradio: the extra ``demo``."""

from mmsnnet.demo.choices import Choices
from mmsnnet.demo.predictor import RoutePredictor

__all__ = ['Choices', 'RoutePredictor']
