"""A headless browser, where there is one."""

import shutil
from collections.abc import Iterator

import pytest


@pytest.fixture(scope='session')
def browser() -> Iterator:
    webdriver = pytest.importorskip('selenium.webdriver', reason="needs pip install -e '.[tests]'")
    chromium, driver = shutil.which('chromium') or shutil.which('google-chrome'), shutil.which('chromedriver')
    if not chromium or not driver:
        pytest.skip('no Chromium with its driver: apt install chromium chromium-driver, then run the tests again')
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ('headless=new', 'no-sandbox', 'disable-gpu', 'disable-background-networking', 'no-first-run'):
        options.add_argument(f'--{argument}')
    options.set_capability('goog:loggingPrefs', {'browser': 'ALL'})
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield chrome
    chrome.quit()
