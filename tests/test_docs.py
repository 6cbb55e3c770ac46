"""The documentation site, its API reference, and what pages say of the repository."""

import ast
import importlib
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml

import mmsnnet
from mmsnnet import registry

ROOT = Path(__file__).parents[1]
DOCS = ROOT / 'docs'
REFERENCE = sorted((DOCS / 'reference').glob('*.md'))


@pytest.fixture(scope='module')
def site(tmp_path_factory) -> Path:
    """The built site. A warning stops the build."""
    for package in ('mkdocs', 'material', 'mkdocstrings_handlers.python'):
        pytest.importorskip(package, reason="needs Python 3.11 and pip install -e '.[docs]' -c constraints.txt")
    folder = tmp_path_factory.mktemp('site')
    command = [sys.executable, '-m', 'mkdocs', 'build', '--strict', '--site-dir', str(folder)]
    # Of MkDocs' future, not of this site.
    environment = {**os.environ, 'NO_MKDOCS_2_WARNING': '1'}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return folder


class Links(HTMLParser):
    """What a page names and links to."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.targets: list[str] = []
        self.feed(page.read_text(encoding='utf-8'))

    def handle_starttag(self, tag: str, attrs: list) -> None:
        attributes = dict(attrs)
        self.ids.add(attributes.get('id') or '')
        self.targets += [attributes[name] for name in ('href', 'src') if attributes.get(name)]


def test_links_of_the_site_lead_somewhere(site):
    pages = {page.resolve(): Links(page) for page in site.rglob('*.html') if page.name != '404.html'}
    dead = []
    for page, links in pages.items():
        for target in links.targets:
            if re.match(r'[a-z]+:', target):
                continue
            path, _, anchor = unquote(target).partition('#')
            file = (page.parent / path).resolve() if path else page
            if not file.exists() or (anchor and file in pages and anchor not in pages[file].ids):
                dead.append(f'{page.name}: {target}')
    assert len(pages) > 20
    assert dead == []


def test_the_site_loads_nothing_from_a_network(site):
    loaded = r'<(?:script|img|link)\b[^>]*(?:src|href)="(https?:[^"]+)"'
    assert [found for page in site.rglob('*.html') for found in re.findall(loaded, page.read_text())] == []


def test_the_site_shows_readme_and_docstrings(site):
    home = (site / 'index.html').read_text()
    assert 'mmsnnet brings this to' in home
    assert 'src="camvid/pareto.png"' in home
    backbones = (site / 'reference' / 'backbones.html').read_text()
    assert 'rank of the stitching layers' in backbones
    assert ':::' not in backbones


def test_every_page_of_docs_is_in_the_navigation_or_a_table_of_benchmarks():
    text = (ROOT / 'mkdocs.yml').read_text()
    pages = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob('*.md')}
    assert {page for page in pages if f': {page}\n' not in text and not page.startswith('benchmarks/')} == set()


def test_every_registered_class_is_in_the_reference():
    for name in ('mmsnnet.evaluation.routes.coco_metric', 'mmsnnet.models.taught_classifier'):
        importlib.import_module(name)
    shown = set(re.findall(r'^::: (\S+)', '\n'.join(page.read_text() for page in REFERENCE), re.MULTILINE))
    names = ('MODELS', 'HOOKS', 'LOOPS', 'METRICS', 'OPTIM_WRAPPER_CONSTRUCTORS', 'ROUTE_SAMPLERS')
    classes = [cls for name in names for cls in getattr(registry, name).module_dict.values()]
    ours = {f'{cls.__module__}.{cls.__name__}' for cls in classes if cls.__module__.startswith('mmsnnet.')}
    assert len(ours) >= 14
    assert ours - shown == set()


def test_imports_point_the_way_the_architecture_page_says():
    text = (DOCS / 'architecture.md').read_text()
    order = re.findall(r'`(\w+)`', text[text.index('Imports point one way') :].splitlines()[0])
    assert order == ['stitching', 'models', 'evaluation', 'engine', 'tools']
    wrong = []
    for path in (ROOT / 'mmsnnet').rglob('*.py'):
        folder = path.relative_to(ROOT / 'mmsnnet').parts[0]
        if folder in order:
            later = {f'mmsnnet.{name}' for name in order[order.index(folder) + 1 :]}
            wrong += [f'{path}: {name}' for name in imported(path) if '.'.join(name.split('.')[:2]) in later]
    assert wrong == []


def imported(path: Path) -> list[str]:
    """Names of the modules that a file imports."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [node.module or '', *(f'{node.module}.{alias.name}' for alias in node.names)]
    return names


def test_the_architecture_page_knows_every_folder():
    text = (DOCS / 'architecture.md').read_text()
    folders = {path.parent.relative_to(ROOT).as_posix() for path in (ROOT / 'mmsnnet').rglob('__init__.py')}
    folders -= {'mmsnnet', 'mmsnnet/evaluation'}
    assert len(folders) >= 7
    assert {folder for folder in folders if f'| `{folder}/` |' not in text} == set()


def test_the_citation_is_of_this_version_and_of_the_papers_in_the_readme():
    citation = yaml.safe_load((ROOT / 'CITATION.cff').read_text())
    assert citation['cff-version'] == '1.2.0'
    assert citation['version'] == mmsnnet.__version__
    assert citation['license'] == 'Apache-2.0'
    (entries,) = re.findall(r'```bibtex\n(.*?)```', (ROOT / 'README.md').read_text(), re.DOTALL)
    titles = [
        title.replace('{', '').replace('}', '') for title in re.findall(r'title=\{(.*)\},$', entries, re.MULTILINE)
    ]
    papers = [citation['preferred-citation'], *citation['references']]
    assert [paper['title'] for paper in papers] == titles
    for paper, authors in zip(papers, re.findall(r'author=\{(.*)\}', entries), strict=True):
        assert ' and '.join(f'{a["family-names"]}, {a["given-names"]}' for a in paper['authors']) == authors


def test_names_in_the_architecture_page_exist():
    text = (DOCS / 'architecture.md').read_text()
    names = set(re.findall(r'`([^`\n]+)`', re.sub(r'```.*?```', '', text, flags=re.DOTALL)))
    files = {name for name in names if re.fullmatch(r'[\w/]+\.py', name)}
    assert {name for name in files if not any(ROOT.glob(f'**/{name}'))} == set()
    code = '\n'.join(path.read_text() for folder in ('mmsnnet', 'tests') for path in (ROOT / folder).rglob('*.py'))
    defined = {name for name in names if re.fullmatch(r'_?[A-Z]\w+|[a-z]+_\w+', name)}
    assert len(defined) > 40
    assert {name for name in defined if not re.search(rf'\b{name}\b', code)} == set()
