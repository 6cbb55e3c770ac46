"""The source archive and the wheel: what is built from them, and that they work without the repository."""

import os
import shutil
from pathlib import Path
from zipfile import ZipFile

import pytest
from test_packaging import build, clone, run_python  # noqa: F401

# Runs a tool of the package as its users do, then names the files that our modules came from.
RUN = """
import runpy, sys
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name='__main__')
print(*(module.__file__ for name, module in sys.modules.items() if name.partition('.')[0] == 'mmsnnet'), sep='\\n')
"""


@pytest.fixture(scope='module')
def wheel(clone, tmp_path_factory) -> ZipFile:  # noqa: F811
    return build('wheel', clone, tmp_path_factory.mktemp('built') / 'wheel')


def contents(wheel: ZipFile) -> dict[str, bytes]:
    """Every file of a wheel but the list of them."""
    return {name: wheel.read(name) for name in wheel.namelist() if not name.endswith('/RECORD')}


def test_the_source_archive_builds_the_same_wheel(clone, wheel, tmp_path):  # noqa: F811
    hook = 'import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])'
    run_python('-c', hook, str(tmp_path / 'sdist'), cwd=clone)
    (archive,) = (tmp_path / 'sdist').glob('mmsnnet-*.tar.gz')
    shutil.unpack_archive(archive, tmp_path)
    source = tmp_path / archive.name.removesuffix('.tar.gz')

    assert not (source / 'tests').exists(), 'some of the tests without what they import'
    assert contents(build('wheel', source, tmp_path / 'wheel')) == contents(wheel)


def test_trains_without_the_repository(wheel, make_config, tmp_path):
    site, config = tmp_path / 'site', tmp_path / 'toy.py'
    wheel.extractall(site)
    make_config(**{'train_cfg.max_iters': 2}).dump(config)
    env = {**os.environ, 'PYTHONPATH': str(site)}
    printed = run_python('-c', RUN, str(site / 'mmsnnet/.mim/tools/train.py'), str(config), cwd=tmp_path, env=env)

    assert (tmp_path / 'work_dir' / 'iter_2.pth').is_file()
    files = [Path(line) for line in printed.splitlines()]
    assert site / 'mmsnnet' / '__init__.py' in files
    assert [path for path in files if site not in path.parents] == []
