"""README and docs: what they name exists, their commands are understood, and their Python runs as it stands."""

import argparse
import importlib.util
import re
import shlex
import sys
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.utils import get_installed_path

from mmsnnet.building import build_model
from mmsnnet.engine import configured_input_shape
from mmsnnet.engine.exit_checks import check_widths
from mmsnnet.models import find_backbone
from mmsnnet.stitching import read_records, select, write_records
from tools import stitch

ROOT = Path(__file__).parents[1]
README = ROOT / 'README.md'
PAGES = [README, ROOT / 'CONTRIBUTING.md', *sorted((ROOT / 'docs').glob('*.md'))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf'```{language}\n(.*?)```', page.read_text(), re.DOTALL)


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_links_and_files_exist(page):
    text = page.read_text()
    links = [link.partition('#')[0] for link in re.findall(r'\]\(([^)]+)\)', text) if '://' not in link]
    named = re.findall(r'\b(?:tools|docs|configs|tests)/[\w/.-]+\.(?:py|sh|md|json|png)\b', text)
    missing = [link for link in links if not (page.parent / link).exists()]
    missing += [name for name in named if not (ROOT / name).exists()]
    assert not missing


def test_readme_is_short():
    text = README.read_text()
    prose = re.sub(r'```.*?```', '', text, flags=re.DOTALL)
    assert len(prose.split()) <= 1000
    assert len(text.split()) <= 1300
    assert [line for line in text.splitlines() if len(line) > 120] == []


def test_names_of_pages_differ_by_more_than_a_letter():
    names = [page.stem for page in (ROOT / 'docs').glob('*.md')]
    without_one = {name: {name, *(name[:i] + name[i + 1 :] for i in range(len(name)))} for name in names}
    alike = [pair for pair in combinations(names, 2) if without_one[pair[0]] & without_one[pair[1]]]
    assert names
    assert alike == []


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_mmsnnet_is_imported_before_openmmlab(page):
    """Without compiled mmcv, MMSegmentation imports only after it."""
    for block in blocks(page, 'python'):
        imports = re.findall(r'^\s*(?:import|from) (\w+)', block, re.MULTILINE)
        assert imports[:1] == ['mmsnnet'] or not any(name.startswith('mm') for name in imports), block


# Commands


def commands(page: Path) -> list[list[str]]:
    """The words of each command of a page, with its shell variables filled in."""
    found, variables = [], {}
    for line in '\n'.join(blocks(page, 'bash')).replace('\\\n', ' ').splitlines():
        for part in line.split(' && '):
            words = shlex.split(part, comments=True)
            if words and re.fullmatch(r'[A-Z]+=.*', words[0]):
                variables.update([words[0].split('=')])
            elif words:
                found.append([variables[word[1:]] if word.startswith('$') else word for word in words])
    return found


COMMANDS = [
    pytest.param(command, id=f'{page.stem}-{index}') for page in PAGES for index, command in enumerate(commands(page))
]


class Understood(BaseException):
    """A command line that a tool's parser takes."""


@pytest.mark.parametrize('words', COMMANDS)
def test_commands_are_understood(words, monkeypatch):
    if words[0] == 'torchrun':
        assert words[1:3] == ['--nproc_per_node', '8']
        words = ['python', *words[3:]]
    CHECKS[words[0]](words[1:], monkeypatch)


def check_python(words, monkeypatch):
    if words[0] != '-m':
        return check_tool(words, monkeypatch)
    module, *arguments = words[1:]
    if module == 'pytest':
        return [check_file(word) for word in arguments if '/' in word]
    source = ROOT / f'{module.replace(".", "/")}.py'
    text = ''.join(path.read_text() for path in (source, *source.parent.glob('common.py')))
    unknown = [word for word in arguments if word.startswith('--') and f"'{word}'" not in text]
    assert not unknown, f'{module} has no {unknown}'


def check_tool(words, monkeypatch):
    """Let a tool parse its arguments, and do nothing with them."""
    parse = argparse.ArgumentParser.parse_args

    def understand(parser, *args):
        parse(parser, *args)
        raise Understood

    spec = importlib.util.spec_from_file_location('a_tool', ROOT / words[0])
    tool = importlib.util.module_from_spec(spec)
    # A dataclass looks for its module there.
    monkeypatch.setitem(sys.modules, 'a_tool', tool)
    spec.loader.exec_module(tool)
    monkeypatch.setattr(argparse.ArgumentParser, 'parse_args', understand)
    monkeypatch.setattr(sys, 'argv', words)
    with pytest.raises(Understood):
        tool.main()


def check_script(words, monkeypatch):
    check_file(words[0])
    if words[0] == 'tools/quickstart.sh':
        check_tool(['tools/quickstart.py', *words[1:]], monkeypatch)


def check_mim(words, monkeypatch):
    pytest.importorskip('mim', reason="needs pip install -e '.[mim]'")
    command = importlib.import_module(f'mim.commands.{words[0]}').cli
    parsed = command.make_context(words[0], words[1:]).params
    assert parsed['package'] in ('mmsegmentation', 'mmdet', 'mmpretrain', 'mmsnnet')
    given, others = parsed['other_args'], []
    if words[0] == 'run':
        (script,) = Path(get_installed_path(parsed['package'])).glob(f'.mim/tools/**/{parsed["command"]}.py')
        others = re.findall(r"'(--[\w-]+)'", script.read_text())
    elif given:
        others = ['--cfg-options']
    assert [word for word in given if word.startswith('--') and word not in others] == []


def check_pip(words, monkeypatch):
    if '-e' not in words:
        assert all(name.startswith('onedl-') for name in words[1:])
        return
    assert words[:2] == ['install', '-e']
    check_extras(words[2].removeprefix('.').strip('[]'))
    if len(words) > 3:
        assert words[3] == '-c'
        check_file(words[4])


def check_set_up(words, monkeypatch):
    check_file(words[0])
    check_extras(words[1])


def check_extras(names):
    text = (ROOT / 'setup.py').read_text()
    assert [name for name in names.split(',') if name and f"'{name}': [" not in text and name != 'all'] == []


def check_file(name):
    assert (ROOT / name).exists(), f'no {name}'


def check_name_alone(words, monkeypatch):
    """Not ours: ruff is one of CI, and a test of its own runs mkdocs."""
    assert words[0] in ('check', 'format', 'build', 'serve')


CHECKS = {
    'bash': check_script,
    'mim': check_mim,
    'mkdocs': check_name_alone,
    'pip': check_pip,
    'python': check_python,
    'ruff': check_name_alone,
    'source': check_set_up,
}


# Python

RECIPES = [
    pytest.param(block, id=f'{page.stem}-{block.split(chr(39))[1]}')
    for page in PAGES
    for block in blocks(page, 'python')
    if block.startswith('_base_ = ')
]


@pytest.mark.parametrize('recipe', RECIPES)
def test_recipes_build_as_they_stand(recipe, tmp_path):
    """At full size, on shapes alone; and a detector's optimizer, which reads the model."""
    (tmp_path / 'configs').symlink_to(ROOT / 'configs')
    (tmp_path / 'my_config.py').write_text(recipe)
    cfg = Config.fromfile(tmp_path / 'my_config.py')
    with torch.device('meta'):
        model = build_model(cfg)
    assert len(find_backbone(model).space) == (41 if 'swin' in recipe else 134)
    check_widths(model)
    assert sum(configured_input_shape(model, cfg)) >= 960
    assert [hook['type'] for hook in cfg.custom_hooks] == ['mmsnnet.StitchSamplingHook']
    assert (cfg.val_cfg.type, cfg.test_cfg.type) == ('mmsnnet.StitchValLoop', 'mmsnnet.StitchTestLoop')
    assert build_optim_wrapper(model, cfg.optim_wrapper)
    if 'FastCocoMetric' in recipe:
        assert cfg.test_evaluator.type == 'mmsnnet.FastCocoMetric'
        assert cfg.test_evaluator.ann_file.endswith('instances_val2017.json')


def test_there_are_recipes_for_both():
    bases = {re.split('::|/', recipe.id)[0] for recipe in RECIPES}
    assert bases == {'README-mmseg', 'segmentation-mmseg', 'detection-mmdet', 'depth-configs'}


def test_the_part_of_a_recipe_in_the_readme_is_the_recipe_s():
    (part,) = (block for block in blocks(README, 'python') if block.startswith('anchor = dict(windowed'))
    assert part in (ROOT / 'docs' / 'detection.md').read_text()


def checkpoint_of(config: Path) -> Path:
    return Path('work_dirs', config.stem, 'iter_500.pth')


def write_checkpoint(config: Path) -> None:
    """A checkpoint of random weights, as a training would leave it."""
    meta = {'dataset_meta': {'classes': ['ground'] * 7, 'palette': [[0, 0, 0]] * 7}}
    checkpoint_of(config).parent.mkdir(parents=True)
    torch.save({'state_dict': build_model(Config.fromfile(config)).state_dict(), 'meta': meta}, checkpoint_of(config))


@pytest.fixture
def quickstart_done(tmp_path, monkeypatch) -> dict[str, Path]:
    """A folder as the quickstart and ``tools/benchmark.py`` leave it, but for training; what pages name it."""
    monkeypatch.chdir(tmp_path)
    Path('configs').symlink_to(ROOT / 'configs')
    words = []
    for size in ('s6', 'l12'):
        config = Path(f'configs/shapes/anchor-{size}_setr-naive_b16-500_shapes-96x96.py')
        write_checkpoint(config)
        words += [config, checkpoint_of(config)]
    config = Path('work_dirs/stitched-shapes.py')
    monkeypatch.setattr(sys, 'argv', ['stitch.py', *map(str, words), '--out', str(config)])
    stitch.main()
    write_checkpoint(config)
    records = [
        replace(
            record,
            latency_ms=5 + 10 * record.gflops,
            memory_mb=10 * record.params_m,
            metrics={'mIoU': 1.5 * record.metrics['mIoU']},
        )
        for record in read_records(ROOT / 'docs' / 'camvid' / 'stitches.json')
    ]
    Path('benchmark').mkdir()
    write_records(records, 'benchmark/stitches.json')
    cv2.imwrite('photo.jpg', np.zeros((96, 96, 3), np.uint8))
    return {'CONFIG': config, 'CHECKPOINT': checkpoint_of(config)}


@pytest.mark.parametrize(
    ('name', 'wanted', 'budget'),
    [('README.md', {'latency_ms': 20}, 10), ('docs/evaluation.md', {'min_metric': 45, 'memory_mb': 500}, 20)],
)
def test_a_route_is_picked_and_run_as_the_page_says(name, wanted, budget, quickstart_done):
    text = '\n'.join(block for block in blocks(ROOT / name, 'python') if not block.startswith(('_base_', 'anchor')))
    for word, path in quickstart_done.items():
        text = text.replace(f"'{word}'", f"'{path}'")
    names = {}
    exec(text, names)
    assert names['record'] == select(names['records'], **wanted)
    assert names['backbone'].route.name == select(names['records'], latency_ms=budget).name


def test_the_sampler_of_the_architecture_page_draws_what_it_says():
    (block,) = blocks(ROOT / 'docs' / 'architecture.md', 'python')
    names = {}
    exec(block, names)
    sampler = names['ROUTE_SAMPLERS'].build({'type': 'CheapHalfSampler', '_scope_': 'mmsnnet', 'gflops': [4, 1, 3, 2]})
    names['ROUTE_SAMPLERS'].module_dict.pop('CheapHalfSampler')
    assert {sampler(iteration) for iteration in range(50)} == {1, 3}
