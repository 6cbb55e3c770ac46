"""The scatter of all routes as a part of a page: a click chooses the nearest route."""

import io
import re
from typing import Any

from mmsnnet.demo.choices import Choices
from mmsnnet.evaluation.reports.plots import draw_pareto

STYLE = 'svg { width: 100%; height: auto; background: white }'
# Fingers and mice hit a place near a point.
ON_LOAD = """
element.addEventListener('click', event => {
  let nearest = null, least = 40;
  for (const point of element.querySelectorAll('[id^=route-] use')) {
    const box = point.getBoundingClientRect();
    const distance = Math.hypot(box.x + box.width / 2 - event.clientX, box.y + box.height / 2 - event.clientY);
    if (distance < least) [nearest, least] = [point, distance];
  }
  if (nearest) trigger('click', {route: Number(nearest.closest('[id^=route-]').id.slice(6))});
});
"""


def draw_scatter(choices: Choices, cost: str) -> str:
    """An SVG image of all routes over a cost; the point of route 17 has the id ``route-17``."""
    return svg_element(draw_pareto(list(choices.records.values()), choices.metric, cost=cost))


def mark(route: int) -> str:
    """Style of a page that marks a route's point, by its id: to draw the plot anew for it would take long."""
    halo = ' '.join(['drop-shadow(0 0 2px #d00)'] * 3)
    point = f'fill: #d00 !important; fill-opacity: 1 !important; stroke-width: 5; filter: {halo}'
    return f'<style>#route-{route} use {{ {point} }}</style>'


def svg_element(figure: Any) -> str:
    """A figure of matplotlib's as an element of a page, which gives it its size."""
    content = io.StringIO()
    figure.savefig(content, format='svg')
    # An element has neither a head of its own nor a size in points.
    svg = content.getvalue()
    svg = svg[svg.index('<svg') :]
    return re.sub(r' (width|height)="[\d.]+pt"', '', svg, count=2)
