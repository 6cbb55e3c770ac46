"""The tutorial notebook: it is small, says what the other pages say, and runs from top to bottom."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mmsnnet.stitching import read_records

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / 'docs' / 'tutorial.ipynb'
# What Jupyter's shell does with a line that begins with `!`; and a command that fails stops the notebook.
SHELL = """
def shell(command):
    import subprocess
    subprocess.run(command, shell=True, check=True)
"""
# What a reader has at the end.
LAST_LINES = """
import json
print(json.dumps({'chosen': chosen.name, 'budget': BUDGET, 'run': backbone.route.name, 'same': float(same)}))
"""


def cells(kind: str) -> list[str]:
    """Text of the cells of a kind, ``code`` or ``markdown``."""
    return [''.join(cell['source']) for cell in json.loads(NOTEBOOK.read_text())['cells'] if cell['cell_type'] == kind]


def as_python(cell: str) -> str:
    """A cell whose commands of a shell are calls: `!ls {FOLDER}` becomes ``shell(f'ls {FOLDER}')``."""
    return re.sub(r'^( *)[!%](.*)$', lambda line: f'{line[1]}shell(f{line[2]!r})', cell, flags=re.MULTILINE)


def test_it_is_small_and_for_any_python():
    assert NOTEBOOK.stat().st_size < 300_000
    assert json.loads(NOTEBOOK.read_text())['metadata']['kernelspec']['name'] == 'python3'


def test_its_links_lead_to_pages():
    links = re.findall(r'\]\(([^)#]+)', '\n'.join(cells('markdown')))
    assert links
    assert [link for link in links if not (NOTEBOOK.parent / link).exists()] == []


def test_it_installs_as_the_documentation_says():
    (command,) = re.findall(r'%pip install -q (.*)', cells('code')[0])
    assert f'pip install {command} ' in (ROOT / 'docs' / 'installation.md').read_text()


@pytest.mark.slow
def test_it_runs_from_top_to_bottom(tmp_path):
    """In a process and a folder of its own, with few iterations and images."""
    for name in ('mmsnnet', 'tools', 'configs'):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / 'notebook.py').write_text('\n'.join([SHELL, *map(as_python, cells('code')), LAST_LINES]))
    short = {'ITERATIONS': '10', 'IMAGES': '30'}
    environment = {**os.environ, 'PYTHONPATH': str(tmp_path), 'MPLBACKEND': 'agg', **short}
    command = [sys.executable, 'notebook.py']
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]

    end = json.loads(done.stdout.splitlines()[-1])
    folder = tmp_path / 'work_dirs' / 'tutorial'
    records = {record.name: record for record in read_records(folder / 'benchmark' / 'stitches.json')}
    assert len(records) == 2 + 8
    assert records[end['chosen']].gflops <= end['budget'] < max(record.gflops for record in records.values())
    assert end['run'] == end['chosen']
    assert end['same'] > 0.99
    assert (folder / 'route' / 'slim.pth').stat().st_size < (folder / 'stitched.pth').stat().st_size
