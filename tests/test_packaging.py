"""What pip, mim and CI see of the repository. Nothing here needs a network."""

import os
import re
import runpy
import shutil
import subprocess
import sys
from collections import defaultdict
from itertools import chain
from pathlib import Path
from zipfile import ZipFile

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

import mmsnnet

ROOT = Path(__file__).resolve().parent.parent
SETUP = runpy.run_path(str(ROOT / 'setup.py'), run_name='setup')
CONFIGS = sorted((ROOT / 'configs').rglob('*.py'))


def run_python(*args: str, **options) -> str:
    """Standard output of a Python that must succeed."""
    return subprocess.run([sys.executable, *args], check=True, stdout=subprocess.PIPE, text=True, **options).stdout


@pytest.fixture(scope='module')
def clone(tmp_path_factory) -> Path:
    """A copy of the repository, so that building leaves nothing behind here."""
    target = tmp_path_factory.mktemp('clone') / 'mmsnnet'
    ignored = shutil.ignore_patterns('.*', '*.egg-info', '__pycache__', 'build', 'dist', 'work_dirs')
    return shutil.copytree(ROOT, target, ignore=ignored)


def build(kind: str, clone: Path, target: Path) -> ZipFile:
    """Build a ``wheel`` or an ``editable`` wheel the way pip does, with the setuptools that is installed."""
    target.mkdir()
    hook = f'import sys; from setuptools import build_meta; build_meta.build_{kind}(sys.argv[1])'
    run_python('-c', hook, str(target), cwd=clone)
    (path,) = target.glob('*.whl')
    return ZipFile(path)


def test_setup_imports_nothing_heavy():
    code = (
        'import runpy, sys; sys.argv = ["setup.py", "--version"]; runpy.run_path("setup.py", run_name="__main__"); '
        'print(sorted({"torch", "numpy", "mmengine", "mmsnnet"} & set(sys.modules)))'
    )
    assert run_python('-c', code, cwd=ROOT).split('\n')[-3:] == [mmsnnet.__version__, '[]', '']


def test_no_openmmlab_package_is_required():
    names = [Requirement(line).name for line in SETUP['INSTALL_REQUIRES']]
    assert [name for name in names if name.startswith(('mm', 'onedl', 'openmim'))] == []


def test_every_direct_dependency_has_a_tested_version_in_its_range():
    pins = defaultdict(list)
    for line in (ROOT / 'constraints.txt').read_text().splitlines():
        if line and not line.startswith('#'):
            pin = Requirement(line)
            pins[pin.name] += [Version(specifier.version) for specifier in pin.specifier]

    for line in chain(SETUP['INSTALL_REQUIRES'], *SETUP['EXTRAS'].values()):
        requirement = Requirement(line)
        assert pins[requirement.name], f'{requirement.name} has no pin in constraints.txt'
        for pin in pins[requirement.name]:
            assert pin in requirement.specifier, f'constraints.txt pins {pin}, setup.py asks for {requirement}'


def test_wheel_holds_the_package_and_what_mim_needs(clone, tmp_path):
    names = set(build('wheel', clone, tmp_path / 'wheel').namelist())

    in_mim = {'model-index.yml'}
    in_mim |= {path.relative_to(ROOT).as_posix() for path in [*CONFIGS, *(ROOT / 'tools').glob('*.py')]}
    assert {f'mmsnnet/.mim/{name}' for name in in_mim} <= names
    for ending in ('*.py', '*.html'):
        assert {path.relative_to(clone).as_posix() for path in (clone / 'mmsnnet').rglob(ending)} <= names
    assert {name.split('/')[0] for name in names} == {'mmsnnet', f'mmsnnet-{mmsnnet.__version__}.dist-info'}
    assert [name for name in names if name.endswith(('.sh', '.pyc'))] == []
    # No research code.
    assert {name.split('/')[3] for name in names if name.startswith('mmsnnet/.mim/tools/')} == {
        path.name for path in (ROOT / 'tools').glob('*.py')
    }


def test_mim_finds_the_sources_of_an_editable_install(clone, tmp_path):
    build('editable', clone, tmp_path / 'wheel').extractall(tmp_path / 'site')

    for part in SETUP['MIM_PARTS']:
        assert (clone / 'mmsnnet' / '.mim' / part).resolve() == (clone / part).resolve()
    pytest.importorskip('mim')
    code = 'from mim.utils import get_installed_path; print(get_installed_path("mmsnnet"))'
    found = run_python('-c', code, cwd=tmp_path, env={**os.environ, 'PYTHONPATH': str(tmp_path / 'site')})
    assert Path(found.splitlines()[-1]) == clone.resolve() / 'mmsnnet'


def test_config_names_are_unique():
    """mim finds a config by its name, and refuses two of one name."""
    names = [path.name for path in CONFIGS]
    assert sorted(set(names)) == sorted(names)


def test_model_index_names_declared_collections_and_existing_configs():
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text())
    collections = {collection['Name'] for collection in index['Collections']}
    for model in index['Models']:
        assert model['In Collection'] in collections
        assert (ROOT / model['Config']).is_file(), f'{model["Name"]} names {model["Config"]}, which does not exist'
        assert model['Name'] == Path(model['Config']).stem


def test_ci_only_runs_the_tests():
    script = ROOT / '.ci' / 'run'
    assert os.access(script, os.X_OK)
    commands = [line for line in script.read_text().splitlines() if line and not line.startswith('#')]
    assert commands == ['bash tools/run_tests.sh']


@pytest.mark.parametrize('script', sorted(ROOT.glob('tools/*.sh')), ids=lambda path: path.name)
def test_shell_scripts_parse_and_stop_at_errors(script):
    subprocess.run(['bash', '-n', script], check=True)
    assert re.search(r'^set -euo pipefail$', script.read_text(), re.MULTILINE)
