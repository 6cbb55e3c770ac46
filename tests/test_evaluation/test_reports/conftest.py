"""A browser for reports, where there is one."""

from collections.abc import Callable
from pathlib import Path

import pytest
from browsers import browser  # noqa: F401
from report_pages import wait_until_filled


@pytest.fixture(params=[(1280, 900), (400, 800)], ids=['wide', 'narrow'])
def open_page(request, browser) -> Callable:  # noqa: F811
    """Opens a report in a window of a size."""

    def run(path: Path):
        width, height = request.param
        metrics = {'width': width, 'height': height, 'deviceScaleFactor': 1, 'mobile': False}
        browser.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', metrics)
        browser.get(path.as_uri())
        wait_until_filled(browser)
        return browser

    return run
