"""The command line of the demo: what it serves, and what it refuses in one line."""

import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from toy_demo import make_records, write_checkpoint
from toy_job import assert_one_line

from mmsnnet.demo import RoutePredictor
from mmsnnet.stitching import write_records


@pytest.fixture
def files(make_config, tmp_path) -> SimpleNamespace:
    """A config, a checkpoint and records of a toy segmentor."""
    cfg = make_config()
    cfg.dump(tmp_path / 'toy.py')
    checkpoint = write_checkpoint(cfg, tmp_path / 'toy.pth')
    records = make_records(RoutePredictor(cfg.copy(), str(checkpoint)))
    write_records(records, tmp_path / 'stitches.json')
    words = [tmp_path / 'toy.py', checkpoint, '--records', tmp_path / 'stitches.json']
    return SimpleNamespace(words=words, records=records, folder=tmp_path)


@pytest.fixture
def served(monkeypatch) -> list[tuple]:
    """What was to be served; nothing is."""
    pytest.importorskip('gradio', reason="needs pip install -e '.[demo]'")
    from mmsnnet.demo import server

    calls: list[tuple] = []
    monkeypatch.setattr(server, 'serve', lambda *args: calls.append(args))
    # The tool imports its neighbours, as a script does.
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / 'tools')
    return calls


def test_serves_to_this_machine_alone_unless_asked(run_tool, files, served):
    run_tool('demo', *files.words)
    run_tool('demo', *files.words, '--host', '0.0.0.0', '--port', 1234, '--share')
    assert [call[1:] for call in served] == [('127.0.0.1', None, False), ('0.0.0.0', 1234, True)]


def test_offers_pictures_of_a_folder(run_tool, files, served, data_root):
    run_tool('demo', *files.words, '--examples', data_root / 'images' / 'val', '--title', 'Mine')
    ((page, *_),) = served
    assert page.title == 'Mine'
    assert str(next((data_root / 'images' / 'val').iterdir()).name) in str(page.get_config_file())


def test_refuses_in_one_line(run_tool, files, served, tmp_path):
    write_records(
        [*files.records, files.records[0].__class__(9, 'x', 'LS', 1.0, 1.0, {'mIoU': 1.0})], tmp_path / 'more.json'
    )
    write_records([], tmp_path / 'none.json')
    for words, message in (
        ([*files.words[:3], tmp_path / 'more.json'], 'the records name route 9, and this model has routes 0 to 3'),
        ([*files.words[:3], tmp_path / 'none.json'], 'no records to select from'),
        ([*files.words, '--metric', 'PQ'], "has no metric 'PQ'"),
        ([*files.words, '--examples', tmp_path / 'nowhere'], 'no images (.jpeg, .jpg, .png, .webp)'),
        ([files.words[0], tmp_path / 'gone.pth', *files.words[2:]], 'gone.pth'),
    ):
        with pytest.raises(SystemExit) as stopped:
            run_tool('demo', *words)
        assert_one_line(stopped.value, re.escape(message))
    assert not served


def test_says_which_package_is_missing(run_tool, files, monkeypatch):
    for name in [name for name in sys.modules if name.startswith('mmsnnet.demo.') and 'tab' in name]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, 'mmsnnet.demo.server', raising=False)
    monkeypatch.delitem(sys.modules, 'mmsnnet.demo.page', raising=False)
    monkeypatch.setitem(sys.modules, 'gradio', None)
    with pytest.raises(SystemExit) as stopped:
        run_tool('demo', *files.words)
    assert_one_line(stopped.value, re.escape("the demo needs gradio: pip install -e '.[demo]' -c constraints.txt"))
