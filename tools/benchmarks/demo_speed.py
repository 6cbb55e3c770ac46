"""How long does the demo take, beside the model, until a new budget is shown?

$ bash tools/demo.sh
$ python -m tools.benchmarks.demo_speed --out docs/benchmarks/demo_speed.json    # in another shell

A headless Chromium opens the page, takes the first example, and moves the slider from one end to the other and back.
It times from the slider's input until the new picture is decoded and its facts are on the page. The milliseconds that
the page names for the model are taken off. It should be less than 100.
"""

import argparse
import re
import shutil
import time
from pathlib import Path
from statistics import median, quantiles

import torch

from mmsnnet.cli import command
from mmsnnet.errors import UserError
from tools.benchmarks.pages import environment, join_page, markdown_table, write_results

BOUND_MS = 100
WARM_UP = 4
# Moves the slider, and waits until another route's name and a new picture are there.
MOVE = """
const [slider, value, done] = arguments;
const name = () => document.querySelector('#facts b').textContent;
const image = () => document.querySelector('#result img');
const before = [name(), image().src], start = performance.now();
const watch = async () => {
  if (name() === before[0] || image().src === before[1]) return requestAnimationFrame(watch);
  await image().decode();
  done([performance.now() - start, document.querySelector('#facts').textContent]);
};
slider.value = value;
slider.dispatchEvent(new Event('input', {bubbles: true}));
watch();
"""


def measure(address: str, repetitions: int) -> list[tuple[float, float]]:
    """Milliseconds in all and of the model, for each move."""
    from selenium import webdriver
    from selenium.webdriver.support.wait import WebDriverWait

    options = webdriver.ChromeOptions()
    for argument in ('headless=new', 'no-sandbox', 'disable-gpu', 'window-size=1280,1000'):
        options.add_argument(f'--{argument}')
    # Selenium would look for a driver on the network.
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which('chromedriver')))
    try:
        wait = WebDriverWait(browser, 30)
        browser.get(address)
        wait.until(lambda _: browser.find_elements('css selector', '#examples button'))[0].click()
        wait.until(lambda _: 'ms for this picture' in browser.find_element('css selector', '#facts').text)
        slider = browser.find_element('css selector', '#budget input[type=range]')
        ends = [slider.get_attribute(name) for name in ('min', 'max')]
        times = []
        for index in range(repetitions + WARM_UP):
            time.sleep(0.5)
            whole, facts = browser.execute_async_script(MOVE, slider, ends[index % 2])
            times.append((whole, float(re.search(r'([\d.]+) ms for this picture', facts)[1])))
        return times[WARM_UP:]
    finally:
        browser.quit()


@command
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--address', default='http://127.0.0.1:7860', help='of the page (http://127.0.0.1:7860)')
    parser.add_argument('--repetitions', type=int, default=40, help='moves of the slider (40)')
    parser.add_argument('--out', type=Path, required=True, help='JSON file of the results; a page comes beside it')
    args = parser.parse_args()
    if args.repetitions < 2:
        raise UserError(f'--repetitions must be 2 or more, got {args.repetitions}')
    times = measure(args.address, args.repetitions)
    beside = [whole - model for whole, model in times]
    low, _, high = quantiles(beside, n=4)
    results = {
        'whole_ms': median(whole for whole, _ in times),
        'model_ms': median(model for _, model in times),
        'beside_ms': median(beside),
        'beside_quartiles_ms': [low, high],
        'wanted_ms': BOUND_MS,
        'repetitions': len(times),
    }
    env = environment(torch.device('cpu'))
    row = [f'{results[name]:.0f}' for name in ('whole_ms', 'model_ms', 'beside_ms')]
    table = markdown_table(
        ['', 'ms in all', 'ms of the model', 'ms beside the model', 'wanted'],
        [['a new budget', *row, f'< {BOUND_MS}']],
    )
    page = join_page(['# How long does the demo take, beside the model, until a new budget is shown?\n', table], env)
    write_results(args.out, {**results, **env}, page)
    print(table)


if __name__ == '__main__':
    main()
