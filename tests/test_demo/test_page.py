"""The page in a real browser: what visitors do with pictures and videos."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from toy_demo import make_records

from mmsnnet.demo import Choices

WINDOWS = [(1280, 1000), (400, 800)]


class Page:
    """A served page, open in a browser."""

    def __init__(self, browser, address: str, size: tuple[int, int]) -> None:
        from selenium.webdriver.support.wait import WebDriverWait

        self.browser, self.wait, self.address = browser, WebDriverWait(browser, 30), address
        metrics = {'width': size[0], 'height': size[1], 'deviceScaleFactor': 1, 'mobile': False}
        browser.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', metrics)
        # Pages before this one may have been closed while they asked for something.
        browser.get('about:blank')
        browser.get_log('browser')
        browser.get(address)
        self.until(lambda: self.find('#budget input[type=range]') and self.find('input[type=file]'))

    def find(self, selector: str) -> list:
        return self.browser.find_elements('css selector', selector)

    def until(self, condition: Callable):
        """Wait for what is true, in a page whose elements come and go."""
        from selenium.common import StaleElementReferenceException

        def is_so(_) -> bool:
            try:
                return condition()
            except (StaleElementReferenceException, IndexError):
                return False

        return self.wait.until(is_so)

    def text(self, selector: str) -> str:
        return self.find(selector)[0].text

    def upload(self, selector: str, path: Path) -> None:
        self.find(f'{selector} input[type=file]')[0].send_keys(str(path))

    def slide(self, selector: str, value: float) -> None:
        """Move a slider as a hand does: the page hears of its input."""
        script = 'arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event("input", {bubbles: true}))'
        self.browser.execute_script(script, self.find(f'{selector} input[type=range]')[0], value)

    def click(self, selector: str, words: str = '') -> None:
        """Click where an element is, the first with some words in it."""
        from selenium.webdriver import ActionChains

        element = next(element for element in self.find(selector) if words in element.text)
        self.browser.execute_script('arguments[0].scrollIntoView({block: "center"})', element)
        ActionChains(self.browser).move_to_element(element).click().perform()

    def chosen(self) -> int:
        """The route that the scatter marks."""
        marks = self.browser.execute_script(
            'return [...document.querySelectorAll("#scatter [id^=route-] use")]'
            '.filter(each => getComputedStyle(each).fill == "rgb(221, 0, 0)").map(each => each.closest("g[id]").id)'
        )
        assert len(marks) == 1
        return int(marks[0].removeprefix('route-'))


@pytest.fixture
def picture(tmp_path) -> Path:
    path = tmp_path / 'picture.png'
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8))
    return path


@pytest.fixture
def open_page(make_predictor, browser, picture):
    """Serves a toy model's page and opens it in a window."""
    gradio = pytest.importorskip('gradio', reason="needs pip install -e '.[demo]'")
    from mmsnnet.demo.server import build_page, serve

    pages: list[gradio.Blocks] = []

    def run(task: str, size: tuple[int, int] = WINDOWS[0]) -> Page:
        predictor = make_predictor(task)
        pages.append(build_page(predictor, Choices(make_records(predictor)), [picture], 'Toy routes'))
        return Page(browser, serve(pages[-1], '127.0.0.1', None, blocks=False), size)

    yield run
    for page in pages:
        page.close()


@pytest.mark.parametrize('size', WINDOWS, ids=['wide', 'narrow'])
def test_a_picture_and_a_budget(open_page, picture, size):
    page = open_page('segmentation', size)
    page.upload('#picture', picture)
    page.until(lambda: 'ms for this picture' in page.text('#facts') and page.find('#result img'))
    assert page.chosen() == 3
    assert 'mIoU 13, 4 GFLOPs, 5 ms, 1 M parameters' in page.text('#facts')
    assert 'of the pixels have another class than with l[0:4].' in page.text('#facts')

    seen = page.find('#result img')[0].get_attribute('src')
    page.slide('#budget', 1)
    page.until(lambda: '1 GFLOPs' in page.text('#facts') and page.chosen() == 0)
    page.until(lambda: page.find('#result img')[0].get_attribute('src') != seen)

    page.click('#route-2 use')
    page.until(lambda: '3 GFLOPs' in page.text('#facts') and page.chosen() == 2)
    page.until(lambda: page.find('#budget input[type=number]')[0].get_attribute('value') == '3')

    page.click('#cost label', 'latency')
    page.until(lambda: page.find('#budget input[type=range]')[0].get_attribute('max') == '5')
    assert page.chosen() == 2
    # Above what the slider allowed before.
    page.slide('#budget', 5)
    page.until(lambda: ' 5 ms' in page.text('#facts') and page.chosen() == 3)
    page.slide('#budget', 3.5)
    page.until(lambda: '3 ms' in page.text('#facts') and page.chosen() == 1)

    seen = page.find('#result img')[0].get_attribute('src')
    page.slide('#opacity', 0)
    page.until(lambda: page.find('#result img')[0].get_attribute('src') != seen)
    assert page.browser.execute_script('return document.documentElement.scrollWidth') <= size[0]


def test_two_routes_under_a_divider(open_page, picture):
    page = open_page('depth')
    page.click('#examples button')
    page.until(lambda: 'The depth of' in page.text('#facts'))
    page.click('#compare button')
    page.until(lambda: len(page.find('#both img')) == 2)
    before = [image.get_attribute('src') for image in page.find('#both img')]
    assert before[0] != before[1]
    page.click('#right input')
    page.click('#right [role=option]', 'l[0:2]-s[1:2]')
    page.until(lambda: page.find('#both img')[-1].get_attribute('src') not in before)


@pytest.mark.parametrize('size', WINDOWS, ids=['wide', 'narrow'])
def test_a_video_of_ten_frames(open_page, tmp_path, size):
    from mmsnnet.demo.video import VideoWriter

    writer = VideoWriter(tmp_path / 'video.mp4')
    for index in range(10):
        writer.write(index / 5, np.full((60, 80, 3), 20 * index, np.uint8))
    writer.close()
    page = open_page('segmentation', size)
    page.click('[role=tab]', 'Video')
    page.until(lambda: page.find('#source input[type=file]'))
    page.upload('#source', tmp_path / 'video.mp4')
    page.until(lambda: page.find('#source video'))
    page.click('#run')
    page.until(lambda: 'Frame 10:' in page.text('#playing') and page.find('#played video'))
    duration = 'return document.querySelector("#played video").duration'
    # From the first frame to the last one, and perhaps how long that is shown.
    page.until(lambda: 1.7 < page.browser.execute_script(duration) < 2.1)
    assert page.find('#frame img')
    lines, column = page.find('#lines svg')[0], page.find('#frame')[0]
    assert 0 < lines.size['width'] <= column.size['width']
    assert page.browser.execute_script('return document.documentElement.scrollWidth') <= size[0]


@pytest.mark.parametrize(('task', 'words'), [('detection', 'finds'), ('classification', 'The likeliest class is')])
def test_other_tasks(open_page, picture, task, words):
    page = open_page(task)
    page.upload('#picture', picture)
    page.until(lambda: words in page.text('#facts') and page.find('#result img'))


def test_what_cannot_be_read_gives_a_message(open_page, picture, tmp_path):
    broken = tmp_path / 'broken.png'
    broken.write_bytes(picture.read_bytes()[:20])
    page = open_page('segmentation')
    page.upload('#picture', broken)
    page.until(lambda: 'no picture that can be read' in page.text('body'))
    assert str(tmp_path.parent) not in page.text('body')
    large = tmp_path / 'large.png'
    cv2.imwrite(str(large), np.zeros((5001, 5000), np.uint8))
    page = Page(page.browser, page.address, WINDOWS[0])
    page.upload('#picture', large)
    page.until(lambda: 'more than 25 million pixels' in page.text('body'))
    page.click('[role=tab]', 'Video')
    page.until(lambda: page.find('#run') and page.find('#run')[0].is_displayed())
    page.click('#run')
    page.until(lambda: 'Choose a video first.' in page.text('body'))


def test_nothing_is_asked_of_the_network(open_page, picture, monkeypatch):
    # Of a proxy neither, where one is set.
    monkeypatch.setenv('HTTP_PROXY', 'http://127.0.0.1:9')
    page = open_page('segmentation')
    page.upload('#picture', picture)
    page.until(lambda: page.find('#result img'))
    entries = page.browser.execute_script('return JSON.stringify(performance.getEntriesByType("resource"))')
    addresses = {entry['name'] for entry in json.loads(entries)}
    assert len(addresses) > 10
    assert {address for address in addresses if not address.startswith((page.address, 'data:', 'blob:'))} == set()
    errors = [entry['message'] for entry in page.browser.get_log('browser') if entry['level'] == 'SEVERE']
    assert errors == []
