"""``tools/stitch.py --add``: one more route trains, and nothing else changes."""

import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from toy_job import CROP, assert_one_line
from toy_pairs import anchors, load

from mmsnnet.building import build_model
from mmsnnet.errors import UserError
from mmsnnet.export import slim_config
from mmsnnet.joining import add_to_config, find_new_route
from mmsnnet.models import find_backbone, route_costs
from mmsnnet.models.tasks import task_of
from mmsnnet.stitching import StitchSpace


def test_an_added_route_trains_and_changes_nothing_else(make_pair, stitch, run_tool, tmp_path):
    """Of the model: no weight and no output. The route itself starts as what an anchor would give, and learns."""
    pair = make_pair(anchors)
    stitch(pair, '--routes', '2')
    files = [tmp_path / 'out' / f'stitched.{end}' for end in ('py', 'pth')]
    route = 'l[0:2]-s[1:2]'
    run_tool('stitch', '--add', route, *files, '--out', tmp_path / 'grown.py')
    for index in range(2):
        pair.checkpoint(index).unlink()
    run_tool('train', tmp_path / 'grown.py', '--work-dir', tmp_path / 'work')
    before, after = load(Config.fromfile(files[0])), build_model(Config.fromfile(tmp_path / 'grown.py')).eval()
    content = torch.load(tmp_path / 'work' / 'iter_4.pth', weights_only=False)
    after.load_state_dict(content['state_dict'])
    for name, value in before.state_dict().items():
        # The stitching layers of an untrained model are solved before it trains.
        if '.up.' not in name and '.down.' not in name:
            assert torch.equal(content['state_dict'][name], value), name
    assert set(content['trained_routes']) == {'s[0:2]', 'l[0:4]', route}
    images = torch.randn(2, 3, *CROP)
    with torch.no_grad():
        for id_ in range(2):
            for model in (before, after):
                find_backbone(model).set_route(id_)
            assert torch.equal(task_of(before).outputs(images), task_of(after).outputs(images))
    fresh = torch.load(tmp_path / 'grown.pth', weights_only=False)['state_dict']
    own = {name for name in fresh if f'.{route}.' in name}
    assert any(not torch.equal(fresh[name], content['state_dict'][name]) for name in own)
    # A second one leaves the first as it is.
    run_tool(
        'stitch', '--add', 's[0:1]-l[2:4]', tmp_path / 'grown.py', tmp_path / 'work' / 'iter_4.pth', '--out',
        tmp_path / 'twice.py',
    )  # fmt: skip
    run_tool('train', tmp_path / 'twice.py', '--work-dir', tmp_path / 'twice')
    twice = torch.load(tmp_path / 'twice' / 'iter_4.pth', weights_only=False)
    for name, value in content['state_dict'].items():
        assert torch.equal(twice['state_dict'][name], value), name
    assert set(twice['trained_routes']) == {'s[0:2]', 'l[0:4]', route, 's[0:1]-l[2:4]'}


@pytest.mark.parametrize(
    ('route', 'message'),
    [
        ('s[0:2]', r'error: s\[0:2\] is in the model already'),
        ('l[0:3]', "error: unknown route 'l[0:3]'".replace('[', r'\[')),
        ('budget:1e-9', 'error: no route to add costs at most 1e-09 GFLOPs, the cheapest costs'),
        ('budget:much', "error: a budget in GFLOPs must be a number above 0, got 'much'"),
    ],
)
def test_refuses_to_add(route, message, make_pair, stitch, run_tool, tmp_path):
    stitch(make_pair(anchors))
    files = [tmp_path / 'out' / f'stitched.{end}' for end in ('py', 'pth')]
    with pytest.raises(SystemExit) as stopped:
        run_tool('stitch', '--add', route, *files, '--out', tmp_path / 'grown.py')
    assert_one_line(stopped.value, message)


def test_adds_no_route_that_is_trained(make_pair, stitch, run_tool, tmp_path):
    stitch(make_pair(anchors), '--routes', '1')
    config, checkpoint = tmp_path / 'out' / 'stitched.py', tmp_path / 'work' / 'iter_4.pth'
    run_tool('train', config, '--work-dir', tmp_path / 'work')
    (trained,) = set(torch.load(checkpoint)['trained_routes']) - {'s[0:2]', 'l[0:4]'}
    with pytest.raises(SystemExit) as stopped:
        run_tool('stitch', '--add', trained, config, checkpoint, '--out', tmp_path / 'grown.py')
    assert_one_line(stopped.value, f'{re.escape(trained)} is in the model already, trained')
    run_tool('stitch', '--add', 'budget:1', config, checkpoint, '--out', tmp_path / 'grown.py')
    assert Config.fromfile(tmp_path / 'grown.py').model.backbone.own_tunings != [trained]


def test_knows_its_classes_however_a_config_names_them(make_pair, stitch, run_tool, tmp_path):
    config, checkpoint = (Path(stitch(make_pair(anchors)).filename).with_suffix(end) for end in ('.py', '.pth'))
    text = config.read_text().replace("'mmsnnet.PerExit'", 'PerExit').replace("'mmsnnet.StitchSamplingHook'", 'Hook')
    imports = 'from mmsnnet.engine import StitchSamplingHook as Hook\nfrom mmsnnet.models import PerExit\n'
    (tmp_path / 'lazy.py').write_text(f'from mmengine.config import read_base\n{imports}{text}')
    # Weights alone do, too.
    torch.save(torch.load(checkpoint)['state_dict'], checkpoint)
    run_tool('stitch', '--add', 'l[0:2]-s[1:2]', tmp_path / 'lazy.py', checkpoint, '--out', tmp_path / 'grown.py')
    grown = Config.fromfile(tmp_path / 'grown.py')
    assert grown.custom_hooks[-1].focus == grown.model.decode_head.own_tunings == ['l[0:2]-s[1:2]']
    assert slim_config(Config.fromfile(tmp_path / 'lazy.py'), StitchSpace([2, 4])[0]).custom_hooks == []


def test_needs_the_hook_that_trains_the_route_and_takes_no_settings_of_others(
    make_pair, stitch, run_tool, tmp_path, capsys
):
    cfg = stitch(make_pair(anchors))
    with pytest.raises(UserError, match='no StitchSamplingHook in custom_hooks'):
        add_to_config(Config({**cfg.to_dict(), 'custom_hooks': []}), StitchSpace([2, 4])[2], 'grown.pth')
    with pytest.raises(SystemExit):
        run_tool('stitch', '--add', '3', cfg.filename, cfg.filename, '--out', tmp_path / 'g.py', '--routes', '2')
    assert '--add takes neither --exact nor --routes' in capsys.readouterr().err


def test_adds_the_most_expensive_route_within_a_budget(make_pair, stitch, run_tool, tmp_path):
    cfg = stitch(make_pair(anchors))
    model = load(cfg)
    costs = route_costs(model, CROP)
    budget = sorted(costs.gflops)[2] * 1.0001
    files = [tmp_path / 'out' / f'stitched.{end}' for end in ('py', 'pth')]
    run_tool('stitch', '--add', f'budget:{budget}', *files, '--out', tmp_path / 'grown.py')
    (name,) = Config.fromfile(tmp_path / 'grown.py').model.backbone.own_tunings
    switched = [route for route in find_backbone(model).space if route.kind != 'anchor']
    within = [route for route in switched if costs[route.id].gflops <= budget]
    assert name == max(within, key=lambda route: costs[route.id].gflops).name


def test_says_that_no_route_is_left(make_pair, stitch):
    model = load(stitch(make_pair(anchors)))
    names = [route.name for route in find_backbone(model).space]
    with pytest.raises(UserError, match='no route is left to add'):
        find_new_route(model, stitch(make_pair(anchors)), 'budget:1', names)


def test_does_not_add_to_a_model_whose_routes_share_all_weights(config_file, run_tool, tmp_path):
    config = config_file()
    run_tool('train', config)
    with pytest.raises(SystemExit) as stopped:
        run_tool(
            'stitch', '--add', 'l[0:2]-s[1:2]', config, tmp_path / 'work_dir' / 'iter_4.pth', '--out', tmp_path / 'g.py'
        )
    assert_one_line(stopped.value, 'can only be added beside finished anchors')
