"""README and docs: what they name exists, and their Python can run as it stands."""

import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper

from mmsnnet.cli import build_model
from mmsnnet.engine import configured_input_shape
from mmsnnet.models import find_backbone

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


RECIPES = re.findall(r'```python\n(_base_ = .*?)```', (ROOT / 'README.md').read_text(), re.DOTALL)


@pytest.mark.parametrize('recipe', RECIPES, ids=lambda recipe: recipe.split("'")[1])
def test_recipes_build_as_they_stand(recipe, tmp_path):
    """At full size, on shapes alone; and a detector's optimizer, which reads the model."""
    (tmp_path / 'my_config.py').write_text(recipe)
    cfg = Config.fromfile(tmp_path / 'my_config.py')
    with torch.device('meta'):
        model = build_model(cfg)
    assert len(find_backbone(model).space) == 134
    assert sum(configured_input_shape(model, cfg)) > 1000
    assert [hook['type'] for hook in cfg.custom_hooks] == ['mmsnnet.StitchSamplingHook']
    assert (cfg.val_cfg.type, cfg.test_cfg.type) == ('mmsnnet.StitchValLoop', 'mmsnnet.StitchTestLoop')
    assert build_optim_wrapper(model, cfg.optim_wrapper)
    if 'FastCocoMetric' in recipe:
        assert cfg.test_evaluator.type == 'mmsnnet.FastCocoMetric'
        assert cfg.test_evaluator.ann_file.endswith('instances_val2017.json')


def test_there_are_recipes_for_both():
    assert {recipe.split("'")[1].split('::')[0] for recipe in RECIPES} == {'mmseg', 'mmdet'}
