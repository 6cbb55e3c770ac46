"""Records to report on, and what to ask of a report that is open in a browser."""

from mmsnnet.stitching import Record, StitchSpace

SPACE = StitchSpace((3, 6))
ODD_CLASS = 'a <b>bold</b> class'
MIOU = [30, 50, 45, 20, 40, 49, 31, 48]


def make_records(**fields) -> list[Record]:
    """Records of eight routes that cost more by id."""
    return [
        Record(
            route.id,
            route.name,
            route.kind,
            gflops=10.0 + route.id,
            params_m=5.0 - route.id / 10,
            metrics={'aAcc': 80.0, 'mIoU': float(miou)},
            latency_ms=20.0 - route.id,
            classes={
                'IoU': {'sky': 90.0 + route.id, 'a <b>bold</b> class': 10.5},
                'Acc': {'sky': 1, 'a <b>bold</b> class': 2},
            },
            provenance={'config': 'toy.py', 'versions': {'torch': '2'}},
            **fields,
        )
        for route, miou in zip(SPACE, MIOU, strict=True)
    ]


def wait_until_filled(browser) -> None:
    """The page's script fills it and then draws the plot, which takes a busy machine a while."""
    from selenium.webdriver.support.ui import WebDriverWait

    filled = "return document.querySelector('#front-size').textContent && !document.querySelector('[aria-busy]')"
    WebDriverWait(browser, 60).until(lambda browser: browser.execute_script(filled))


def text(page, selector: str) -> str:
    return page.execute_script('return document.querySelector(arguments[0]).textContent', selector)


def rows(page, table: str) -> list[list[str]]:
    script = 'return [...document.querySelectorAll(arguments[0])].map(row => [...row.children].map(c => c.textContent))'
    return page.execute_script(script, f'#{table} tr')


def emit(page, event: str, data: str) -> None:
    page.execute_script(f"document.getElementById('pareto').emit('{event}', {data})")
