"""What reports show; report.html is opened in a browser where there is one."""

import csv
import math
import re
from dataclasses import replace

import pytest
from report_pages import MIOU, ODD_CLASS, SPACE, emit, make_records, rows, text, wait_until_filled

from mmsnnet.evaluation import format_record, format_table, write_full_report
from mmsnnet.evaluation.reports.html_report import _traces, write_html
from mmsnnet.evaluation.reports.plots import PALE, plot_pareto
from mmsnnet.stitching import BudgetTable, Record, front_records, read_records, select

ALONE = [Record(0, 'small', 'anchor', 10, 1, {'mIoU': 33}, latency_ms=19)]


def test_writes_all_files(tmp_path):
    records = make_records()
    paths = write_full_report(records, tmp_path, trained_alone=ALONE)
    assert {path.name for path in paths} == {path.name for path in tmp_path.iterdir()}
    assert {path.suffix for path in paths} == {'.json', '.csv', '.png', '.svg', '.html'}
    assert read_records(tmp_path / 'stitches.json') == records
    with (tmp_path / 'stitches.csv').open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row['mIoU']) for row in rows] == MIOU
    assert list(rows[0]) == ['id', 'name', 'kind', 'gflops', 'latency_ms', 'params_m', 'aAcc', 'mIoU']


def test_a_line_joins_anchors_trained_alone(tmp_path):
    """The one that anyone gets by using now one of them, now the other."""
    large = Record(0, 'large', 'anchor', 17, 4, {'mIoU': 47}, latency_ms=13)
    traces = _traces(make_records(), 'mIoU', 'gflops', [large, *ALONE])
    assert [(record.gflops, record.metrics['mIoU']) for record in traces['line between them']] == [(10, 33), (17, 47)]
    assert [record.name for record in _traces([], 'mIoU', 'latency_ms', [*ALONE, large])['line between them']] == [
        'large', 'small'
    ]  # fmt: skip
    assert 'line between them' not in _traces(make_records(), 'mIoU', 'gflops', ALONE)
    # Anchors alone are often evaluated without being timed.
    untimed = [replace(record, latency_ms=None) for record in (large, *ALONE)]
    assert _traces(make_records(), 'mIoU', 'latency_ms', untimed)['line between them'] == []
    write_full_report(make_records(), tmp_path / 'untimed', trained_alone=untimed)
    plot_pareto(make_records(), 'mIoU', tmp_path / 'plot.svg', [large, *ALONE])
    assert 'stroke-dasharray' in (tmp_path / 'plot.svg').read_text()


def test_without_metrics_there_are_records_and_table_only(tmp_path):
    paths = write_full_report([Record(0, 's', 'anchor', 1.0, 1.0)], tmp_path)
    assert [path.name for path in paths] == ['stitches.json', 'stitches.csv']


def test_a_metric_that_broke_is_shown_but_on_no_front(tmp_path):
    records = make_records()
    records[7] = replace(records[7], metrics={**records[7].metrics, 'mIoU': math.nan})
    write_full_report(records, tmp_path)
    assert math.isnan(read_records(tmp_path / 'stitches.json')[7].metrics['mIoU'])
    assert 'NaN' not in (tmp_path / 'stitches.json').read_text()
    assert 'mIoU nan' in format_table(records, 'mIoU')


def test_records_without_the_metric_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no metric 'mAP', it has \['aAcc', 'mIoU'\]"):
        write_full_report(make_records(), tmp_path, metric='mAP')


def test_a_line_shows_the_latency_if_measured():
    record = make_records()[2]
    assert '18 ms' in format_record(record)
    assert ' ms' not in format_record(replace(record, latency_ms=None))


def mark_untrained(records: list[Record]) -> list[Record]:
    """Routes 1 and 4 have been trained: the one that is on the front, and one that is not."""
    return [replace(record, trained=record.id in (1, 4)) for record in records]


def test_routes_that_have_not_been_trained_are_marked(tmp_path):
    records = mark_untrained(make_records())
    assert format_record(records[0]) == f'{format_record(make_records()[0])}  (not trained)'
    assert format_record(records[1]) == format_record(make_records()[1])
    assert format_table(records, 'mIoU').count('(not trained)') == 6
    write_full_report(records, tmp_path)
    assert read_records(tmp_path / 'stitches.json') == records
    with (tmp_path / 'stitches.csv').open() as file:
        assert [row['trained'] for row in csv.DictReader(file)] == [str(record.trained) for record in records]
    assert f'opacity: {PALE}' in (tmp_path / 'pareto.svg').read_text()
    page = (tmp_path / 'report.html').read_text()
    assert '6 routes that have not been trained' in page
    assert page.count('\\u003cbr\\u003enot trained') == 6


def test_nothing_is_marked_where_all_were_trained_or_nothing_is_known(tmp_path):
    for trained in (None, True):
        records = [replace(record, trained=trained) for record in make_records()]
        assert 'trained' not in format_table(records, 'mIoU')
        write_full_report(records, tmp_path)
        assert f'opacity: {PALE}' not in (tmp_path / 'pareto.svg').read_text()
        assert 'have not been trained' not in (tmp_path / 'report.html').read_text()


def test_the_front_and_what_is_picked_go_by_numbers_alone():
    records = mark_untrained(make_records())
    assert select(records, gflops=10.5) == records[0]
    assert BudgetTable(records).best(gflops=10.5) == records[0]
    assert [record.id for record in front_records(records, 'mIoU')] == [0, 1]


def test_page_needs_nothing_from_elsewhere(tmp_path):
    write_html(make_records(), 'mIoU', tmp_path / 'report.html')
    page = (tmp_path / 'report.html').read_text()
    assert not re.search(r'<(script|link|img|iframe)[^>]+(src|href)=', page)


# In a browser


@pytest.fixture
def page(open_page, tmp_path):
    """The report, with what a user does to it."""
    write_html(make_records(), 'mIoU', tmp_path / 'report.html', ALONE)
    return open_page(tmp_path / 'report.html')


def test_page_fits_its_window_and_reports_no_error(page):
    buttons = page.find_elements('css selector', '#axes button')
    assert [button.text for button in buttons] == ['GFLOPs', 'latency (ms)', 'parameters (M)']
    assert all(
        button.rect['x'] + button.rect['width'] <= page.execute_script('return innerWidth') for button in buttons
    )
    widths = page.execute_script('return [document.documentElement.scrollWidth, window.innerWidth]')
    assert widths[0] <= widths[1]
    assert page.execute_script("return document.querySelectorAll('#pareto .scatterlayer .trace').length") == 7
    assert [entry for entry in page.get_log('browser') if entry['level'] == 'SEVERE'] == []


def test_page_shows_the_front_and_how_many_are_dominated(page):
    assert text(page, '#front-size') == '2'
    assert text(page, '#dominated') == '6'
    header, *front = rows(page, 'front')
    assert header == ['route', 'id', 'kind', 'GFLOPs', 'latency (ms)', 'parameters (M)', 'aAcc', 'mIoU']
    assert front[0] == ['s[0:3]', '0', 'anchor', '10', '20', '5', '80', '30']


def test_page_marks_routes_that_have_not_been_trained(page, tmp_path):
    write_html(mark_untrained(make_records()), 'mIoU', tmp_path / 'marked.html')
    page.get((tmp_path / 'marked.html').as_uri())
    wait_until_filled(page)
    assert [row[0] for row in rows(page, 'front')[1:]] == ['s[0:3] (not trained)', 'l[0:6]']
    options = page.find_elements('css selector', '#route option')
    assert sum('not trained' in option.text for option in options) == 6
    opacities = "return document.getElementById('pareto').data.slice(1).flatMap(trace => trace.marker.opacity)"
    assert sorted(page.execute_script(opacities)) == [PALE] * 6 + [1.0] * 2


def test_x_axis_and_front_switch_to_latency(page):
    page.find_element('css selector', '#axes button[data-cost=latency_ms]').click()
    assert 'latency (ms)' in text(page, '#pareto .xtitle')
    assert {item.text for item in page.find_elements('css selector', 'h2 .cost-name')} == {'latency (ms)'}
    assert [row[0] for row in rows(page, 'front')[1:]] == [SPACE[7].name, SPACE[5].name, SPACE[1].name]


def test_clicking_a_dot_chooses_the_stitch_and_copies_its_name(page):
    emit(page, 'plotly_click', f"{{points: [{{customdata: [4, '{SPACE[4].name}']}}]}}")
    assert rows(page, 'chosen')[1][0] == SPACE[4].name
    assert rows(page, 'classes') == [['class', 'IoU', 'Acc'], ['sky', '94', '1'], [ODD_CLASS, '10.5', '2']]
    page.implicitly_wait(2)
    page.find_element('xpath', f"//*[@id='copied'][contains(text(), '{SPACE[4].name}')]")


def test_a_row_of_the_front_can_be_chosen(page):
    page.execute_script("document.querySelectorAll('#front tr.route')[1].click()")
    assert rows(page, 'chosen')[1][0] == 'l[0:6]'


def test_a_browser_that_cannot_unpack_the_plot_says_so_and_shows_the_tables(page):
    """Also after a click."""
    script = page.execute_cdp_cmd(
        'Page.addScriptToEvaluateOnNewDocument', {'source': 'delete window.DecompressionStream'}
    )
    try:
        page.refresh()
        wait_until_filled(page)
    finally:
        page.execute_cdp_cmd('Page.removeScriptToEvaluateOnNewDocument', script)
    assert 'This browser cannot draw the plot' in text(page, '.plot')
    page.find_element('css selector', '#axes button[data-cost=latency_ms]').click()
    assert [row[0] for row in rows(page, 'front')[1:]] == [SPACE[7].name, SPACE[5].name, SPACE[1].name]
    assert rows(page, 'chosen')[1][0] == 'l[0:6]'
    assert [entry for entry in page.get_log('browser') if entry['level'] == 'SEVERE'] == []


def test_a_click_on_a_drawn_dot_chooses_its_route(page):
    """A click of the mouse, on a page from a file."""
    from selenium.webdriver.common.action_chains import ActionChains

    assert page.current_url.startswith('file://')
    select = "return [...document.querySelectorAll('#pareto .scatterlayer .trace .points path')]"
    data = '.find(dot => dot.__data__.data && dot.__data__.data[0] === 4)'
    dot = page.execute_script(select + data)
    ActionChains(page).move_to_element(dot).click().perform()
    assert rows(page, 'chosen')[1][0] == SPACE[4].name


def test_legend_hides_a_kind(page):
    legend = page.find_elements('css selector', '#pareto .legendtoggle')
    click = "for (const kind of ['mousedown', 'mouseup'])"
    click += 'arguments[0].dispatchEvent(new MouseEvent(kind, {bubbles: true}))'
    page.execute_script(click, legend[2])
    wait = "const done = arguments[0]; setTimeout(() => done(document.getElementById('pareto').data[2].visible), 800)"
    assert page.execute_async_script(wait) == 'legendonly'


def test_hovering_tells_route_cost_and_metric(tmp_path):
    write_html(make_records(), 'mIoU', tmp_path / 'report.html')
    page = (tmp_path / 'report.html').read_text()
    assert 'GFLOPs 10' in page
    assert 'latency (ms) 20' in page
