"""A browser for reports, where there is one."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from report_pages import wait_until_filled


@pytest.fixture(scope='session')
def browser() -> Iterator:
    webdriver = pytest.importorskip('selenium.webdriver', reason="needs pip install -e '.[tests]'")
    chromium, driver = shutil.which('chromium') or shutil.which('google-chrome'), shutil.which('chromedriver')
    if not chromium or not driver:
        pytest.skip(
            'no Chromium with its driver: apt install chromium chromium-driver, then pytest tests/test_evaluation'
        )
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ('headless=new', 'no-sandbox', 'disable-gpu', 'disable-background-networking', 'no-first-run'):
        options.add_argument(f'--{argument}')
    options.set_capability('goog:loggingPrefs', {'browser': 'ALL'})
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield chrome
    chrome.quit()


@pytest.fixture(params=[(1280, 900), (400, 800)], ids=['wide', 'narrow'])
def open_page(request, browser) -> Callable:
    """Opens a report in a window of a size."""

    def run(path: Path):
        width, height = request.param
        metrics = {'width': width, 'height': height, 'deviceScaleFactor': 1, 'mobile': False}
        browser.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', metrics)
        browser.get(path.as_uri())
        wait_until_filled(browser)
        return browser

    return run
