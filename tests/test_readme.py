"""README and docs: what they name exists, and their Python can run as it stands."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md'))]


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_links_and_files_exist(page):
    text = page.read_text()
    links = [link for link in re.findall(r'\]\(([^)]+)\)', text) if '://' not in link]
    named = re.findall(r'\b(?:tools|docs|configs)/[\w/.-]+\.(?:py|sh|md|json|png)\b', text)
    missing = [link for link in links if not (page.parent / link).exists()]
    missing += [name for name in named if not (ROOT / name).exists()]
    assert not missing


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_mmsnnet_is_imported_before_openmmlab(page):
    """Without compiled mmcv, MMSegmentation imports only after it."""
    for block in re.findall(r'```python\n(.*?)```', page.read_text(), re.DOTALL):
        imports = re.findall(r'^\s*(?:import|from) (\w+)', block, re.MULTILINE)
        assert not imports or imports[0] == 'mmsnnet', block
