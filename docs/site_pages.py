"""A hook of MkDocs: the pages at the repository's root are pages of the site too, and links between them hold."""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
# Files at the root, and what they are called on the site.
PAGES = {'README.md': 'index.md', 'CONTRIBUTING.md': 'contributing.md', 'CHANGELOG.md': 'changelog.md'}
# Files that are no pages are shown where they lie.
FILES = ('LICENSE', 'CITATION.cff')
LINK = re.compile(r'(?<=\]\()[^)#\s]+')


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages and files of the root."""
    for name, page in PAGES.items():
        text = LINK.sub(lambda link: _from_root(link[0]), (ROOT / name).read_text(encoding='utf-8'))
        files.append(File.generated(config, page, content=text))
    for name in FILES:
        files.append(File.generated(config, f'{name}.txt', abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Let links that leave ``docs`` lead to the pages of the root."""
    return LINK.sub(lambda link: PAGES.get(link[0].removeprefix('../'), link[0]), markdown)


def _from_root(link: str) -> str:
    """A link of a page at the root, as it is from ``docs``."""
    if link in FILES:
        return f'{link}.txt'
    return PAGES.get(link, link.removeprefix('docs/'))
