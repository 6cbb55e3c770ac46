"""A focus trains few routes, the same ones on every rank and after a resume, and is known afterwards."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import toy_exact
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmsnnet.building import build_model
from mmsnnet.engine import focus as focus_module
from mmsnnet.engine.batches import choose_images, training_batches
from mmsnnet.errors import UserError
from mmsnnet.models import find_backbone, route_costs
from mmsnnet.registry import ROUTE_SAMPLERS
from mmsnnet.stitching import Record, StitchSpace, read_records, write_records

SPACE = StitchSpace((3, 6))
ANCHORS, SWITCHING = [0, 1], range(2, 8)
NAMES = [route.name for route in SPACE]


@pytest.fixture
def make_focused(make_config) -> Callable[..., Config]:
    """A config of eight routes, six with a switch."""

    def make(focus=None, **changes) -> Config:
        depths = {f'model.backbone.anchors.{index}.depth': depth for index, depth in enumerate(SPACE.depths)}
        cfg = make_config(**{**depths, 'model.backbone.out_indices': (2, 5), **changes})
        cfg.custom_hooks[0].focus = focus
        return cfg

    return make


@pytest.fixture
def make_exact(make_focused, tmp_path) -> Callable[..., Config]:
    """The same with finished anchors and a head for each."""

    def make(focus=None, **changes) -> Config:
        return toy_exact.with_weights(toy_exact.make_exact(make_focused(focus, **changes)), tmp_path)

    return make


class Drawn(Hook):
    """Keeps the weights before training, and the routes of all iterations."""

    priority = 'LOW'

    def __init__(self) -> None:
        self.routes: list[int] = []
        self.start: dict = {}

    def before_train(self, runner: Runner) -> None:
        self.start = weights(runner)

    def after_train_iter(self, runner: Runner, *_, **__) -> None:
        self.routes.append(find_backbone(runner.model).route.id)


def train(cfg: Config) -> tuple[Runner, list[int]]:
    """The runner after training, and the routes of its iterations."""
    runner, drawn = Runner.from_cfg(cfg), Drawn()
    runner.register_hook(drawn)
    runner.train()
    return runner, drawn.routes


def log_of(runner: Runner) -> str:
    return next(Path(runner.log_dir).glob('*.log')).read_text()


def last_checkpoint(runner: Runner) -> dict:
    return torch.load(Path(runner.work_dir, f'iter_{runner.iter}.pth'), weights_only=True)


def weights(runner: Runner) -> dict:
    return {key: value.clone() for key, value in runner.model.state_dict().items()}


def assert_equal_weights(first: Runner, second: Runner) -> None:
    for key, value in first.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[key]), key


def random_parts(cfg: Config) -> Config:
    """With drop path, dropout and running statistics."""
    for anchor in cfg.model.backbone.anchors:
        anchor.drop_path_rate = 0.3
    cfg.model.decode_head.dropout_ratio, cfg.model.decode_head.norm_cfg = 0.3, dict(type='BN')
    return cfg


def test_listed_routes_are_trained_and_no_others(make_focused):
    cfg = make_focused([NAMES[2], 5], log_level='INFO', **{'train_cfg.max_iters': 8})
    cfg.custom_hooks[0].sampler = dict(type='UniformSampler')
    runner, drawn = train(cfg)
    assert set(drawn) == {2, 5}
    assert f'focus: 2 of 8 routes as listed: {NAMES[2]}, {NAMES[5]}' in log_of(runner)
    assert find_backbone(runner.model).trained_routes == {2, 5}
    assert last_checkpoint(runner)['trained_routes'] == [NAMES[2], NAMES[5]]


def test_without_a_focus_all_routes_count_as_trained(make_focused):
    runner, _ = train(make_focused(log_level='INFO'))
    assert 'focus:' not in log_of(runner)
    assert last_checkpoint(runner)['trained_routes'] == NAMES


@pytest.mark.parametrize(
    'sampler',
    [
        dict(type='UniformSampler'),
        dict(type='ResourceConstrainedSampler', step_gflops=1e-4),
        dict(type='SandwichSampler'),
        dict(type='CostIntervalSampler', records='stitches.json', num_intervals=2),
    ],
    ids=lambda sampler: sampler['type'],
)
def test_samplers_draw_as_if_there_were_no_other_routes(make_focused, tmp_path, monkeypatch, sampler):
    monkeypatch.chdir(tmp_path)
    ids = [1, 3, 4, 6]
    # Neither by id nor by GFLOPs.
    times = dict(zip(ids, (1.0, 9.0, 1.5, 9.5), strict=True))
    cfg = make_focused(ids, **{'train_cfg.max_iters': 12})
    costs = route_costs(Runner.from_cfg(cfg).model, (32, 48))
    records = [replace(Record.of(SPACE[id_], costs[id_]), latency_ms=times.get(id_)) for id_ in (6, 4, 0, 1, 3)]
    write_records(records, 'stitches.json')
    cfg.custom_hooks[0].sampler = sampler
    _, drawn = train(cfg)
    if 'records' in sampler:
        sampler = dict(
            sampler, records=[Record(place, '', '', 0.0, 0.0, latency_ms=times[id_]) for place, id_ in enumerate(ids)]
        )
    alone = ROUTE_SAMPLERS.build({'_scope_': 'mmsnnet', 'gflops': [costs[i].gflops for i in ids], 'seed': 7, **sampler})
    assert drawn == [ids[alone(iteration)] for iteration in range(12)]
    assert len(set(drawn)) > 1


def test_a_sampler_that_learns_hears_of_the_routes_it_drew(make_focused):
    cfg = make_focused([7, 2], **{'train_cfg.max_iters': 6})
    cfg.custom_hooks[0].sampler = dict(type='LossSampler', momentum=0.0)
    runner, drawn = train(cfg)
    (hook,) = (hook for hook in runner.hooks if type(hook).__name__ == 'StitchSamplingHook')
    assert hook.sampler.ids == [2, 7]
    assert set(drawn) == {2, 7}
    losses = dict(zip(hook.sampler.ids, hook.sampler.sampler.losses, strict=True))
    assert None not in losses.values()
    assert losses[drawn[-1]] == pytest.approx(runner.message_hub.get_scalar('train/loss').current(), rel=1e-4)
    assert last_checkpoint(runner)['route_sampler'] == {'ids': [2, 7], 'losses': list(losses.values())}


def losses_one_by_one(runner: Runner, count: int, seed: int) -> dict[int, float]:
    """Mean losses of all routes, each run by itself."""
    model, dataset = runner.model.eval(), runner.train_dataloader.dataset
    losses = dict.fromkeys(range(len(SPACE)), 0.0)
    for batch in training_batches(model, dataset, choose_images(dataset, count, seed), seed):
        for id_ in losses:
            find_backbone(model).set_route(id_)
            with torch.no_grad():
                losses[id_] += model.parse_losses(model(**batch, mode='loss'))[0].item() / count
    return losses


@pytest.mark.parametrize('make', ['make_focused', 'make_exact'])
def test_losses_are_those_of_each_route_alone(request, make):
    cfg = request.getfixturevalue(make)()
    for anchor in cfg.model.backbone.anchors:
        anchor.drop_path_rate = anchor.attn_drop_rate = 0.3
    runner, _ = train(cfg)
    expected = losses_one_by_one(runner, 5, seed=3)
    found = focus_module.route_losses(runner, list(SPACE), 5, seed=3)
    assert found == pytest.approx(expected, rel=1e-12)
    assert len({round(loss, 6) for loss in found.values()}) > 4


def test_attention_of_a_head_drops_nothing_while_losses_are_compared(make_focused):
    """PyTorch's attention drops weights itself, by no child that could be in evaluation mode."""
    model = build_model(make_focused())
    model.attention = torch.nn.MultiheadAttention(8, 2, dropout=0.5).train()
    tokens = torch.randn(5, 1, 8)
    with focus_module._without_chance(model, find_backbone(model)):
        first, again = (model.attention(tokens, tokens, tokens)[0] for _ in range(2))
    assert torch.equal(first, again)
    assert model.attention.training


def test_losses_that_count_what_they_see_count_nothing_while_routes_are_compared(make_focused):
    runner, _ = train(make_focused([2]))
    head = runner.model.decode_head
    head.register_buffer('seen', torch.zeros(1))
    head.conv_seg.register_forward_hook(lambda *_: head.seen.add_(1).sum() and None)
    focus_module.route_losses(runner, list(SPACE), 2, seed=3)
    assert head.seen == 0


def test_by_loss_the_best_of_each_interval_trains(make_focused):
    frozen = {'optim_wrapper.optimizer.lr': 0.0, 'log_level': 'INFO'}
    runner, _ = train(make_focused(dict(routes=2, images=4), **frozen))
    losses = losses_one_by_one(runner, 4, seed=7)
    gflops = route_costs(runner.model, (32, 48)).gflops
    middle = (gflops[0] + gflops[1]) / 2
    cheap, dear = ([id_ for id_ in SWITCHING if (gflops[id_] < middle) is wanted] for wanted in (True, False))
    best = [min(ids, key=losses.get) for ids in (cheap, dear)]
    assert min(len(cheap), len(dear)) > 1
    assert find_backbone(runner.model).trained_routes == {*ANCHORS, *best}
    chosen = ', '.join(f'{NAMES[id_]} (loss {losses[id_]:.4g})' for id_ in sorted(best))
    assert f'focus: 4 of 8 routes by loss: s[0:3], l[0:6], {chosen}' in log_of(runner)


@pytest.mark.parametrize(('by', 'amp'), [('loss', False), ('spread', False), ('loss', True)])
def test_looking_leaves_no_trace(make_focused, tmp_path, amp_on_cpu, by, amp):
    changes = {'optim_wrapper.type': 'AmpOptimWrapper', 'optim_wrapper.dtype': 'bfloat16'} if amp else {}
    focus = dict(routes=2, by=by, images=4, anchors=False)
    chosen, drawn = train(random_parts(make_focused(focus, work_dir=str(tmp_path / 'chosen'), **changes)))
    names = last_checkpoint(chosen)['trained_routes']
    assert len(names) == 2
    listed, _ = train(random_parts(make_focused(names, work_dir=str(tmp_path / 'listed'), **changes)))
    assert_equal_weights(chosen, listed)
    assert {NAMES[id_] for id_ in drawn} <= set(names)


def test_halving_leaves_fewer_routes_after_each_round(make_focused, tmp_path):
    focus = dict(routes=1, by='halving', images=2, until=0.5, anchors=False)
    cfg = make_focused(focus, log_level='INFO', **{'train_cfg.max_iters': 12, 'default_hooks.checkpoint.interval': 1})
    cfg.custom_hooks[0].sampler = dict(type='UniformSampler')
    runner, drawn = train(cfg)

    def left(iteration: int) -> list[str]:
        checkpoint = torch.load(tmp_path / 'work_dir' / f'iter_{iteration}.pth', weights_only=True)
        assert checkpoint['focus']['routes'] == checkpoint['trained_routes']
        return checkpoint['trained_routes']

    # Rounds come before iterations 2, 4 and 6: a checkpoint before that does not know of it.
    assert [len(left(iteration)) for iteration in (1, 2, 3, 4, 5, 6, 7, 12)] == [6, 6, 3, 3, 2, 2, 1, 1]
    assert set(left(12)) < set(left(5)) < set(left(3))
    assert {NAMES[id_] for id_ in drawn[6:]} == set(left(12))
    assert re.findall(r'focus: (\d) of 8 routes by halving', log_of(runner)) == ['3', '2', '1']


def test_halving_scores_what_has_been_trained(make_focused, monkeypatch):
    rounds, route_losses = [], focus_module.route_losses
    monkeypatch.setattr(focus_module, 'route_losses', lambda *args: rounds.append(route_losses(*args)) or rounds[-1])
    focus = dict(routes=3, by='halving', images=2, until=0.5, anchors=False)
    for learning_rate in (0.0, 1e-3):
        train(make_focused(focus, **{'optim_wrapper.optimizer.lr': learning_rate}))
    start, trained = rounds
    assert start.keys() == trained.keys() == set(SWITCHING)
    assert all(start[id_] != trained[id_] for id_ in SWITCHING)


def test_routes_whose_loss_is_not_finite_are_the_last_to_be_chosen(make_focused, monkeypatch):
    no_loss = {NAMES[id_] for id_ in (2, 3, 4)}

    class Spoil(Hook):
        def before_run(self, runner: Runner) -> None:
            head = runner.model.decode_head

            def loss(*args, **kwargs):
                losses = type(head).loss(head, *args, **kwargs)
                is_spoilt = find_backbone(runner.model).route.name in no_loss
                return {name: value * float('nan') if is_spoilt else value for name, value in losses.items()}

            head.loss = loss

    runner = Runner.from_cfg(make_focused(dict(routes=2, images=2, anchors=False)))
    runner.register_hook(Spoil())
    runner.train()
    assert not {NAMES[id_] for id_ in find_backbone(runner.model).trained_routes} & no_loss


def test_a_focus_of_other_settings_is_chosen_anew_when_resumed(make_focused, tmp_path):
    train(make_focused(dict(routes=2, images=2)))
    resumed, _ = train(make_focused(dict(routes=3, images=2), resume=True, **{'train_cfg.max_iters': 6}))
    assert len(last_checkpoint(resumed)['trained_routes']) == 5
    listed, drawn = train(make_focused([4], resume=True, **{'train_cfg.max_iters': 8}))
    assert last_checkpoint(listed)['trained_routes'] == [NAMES[4]]
    assert drawn == [4, 4]


def test_memory_is_checked_for_the_most_expensive_route_of_the_focus(make_focused, make_exact, tmp_path):
    line = 'a step and route '
    runner, _ = train(make_focused([0, 3, 4], log_level='INFO'))
    gflops = route_costs(runner.model, (32, 48)).gflops
    assert line + NAMES[max(3, 4, key=gflops.__getitem__)] in log_of(runner)
    runner, _ = train(make_exact(log_level='INFO', work_dir=str(tmp_path / 'exact')))
    assert re.search(re.escape(line) + r'l\[0:2\]-s\[1:2\]-l\[4:6\]', log_of(runner))


def test_finished_anchors_do_not_train_but_count_as_trained(make_exact):
    cfg = make_exact(**{'train_cfg.max_iters': 12})
    cfg.custom_hooks[0].sampler = dict(type='SandwichSampler')
    runner = Runner.from_cfg(cfg)
    drawn = Drawn()
    runner.register_hook(drawn)
    runner.train()
    assert set(drawn.routes) <= set(SWITCHING)
    assert last_checkpoint(runner)['trained_routes'] == NAMES
    changed = {key for key, value in weights(runner).items() if not torch.equal(value, drawn.start[key])}
    assert changed
    assert not [key for key in changed if '.anchors.' in key]


def test_a_focus_of_an_exact_model_is_beside_its_anchors(make_exact):
    runner, drawn = train(make_exact(dict(routes=2, images=2), log_level='INFO', **{'train_cfg.max_iters': 6}))
    names = last_checkpoint(runner)['trained_routes']
    assert names[:2] == ['s[0:3]', 'l[0:6]']
    assert len(names) == 4
    assert {NAMES[id_] for id_ in drawn} <= set(names[2:])
    assert re.search(r'focus: 2 of 8 routes by loss: [sl]\[.*\(loss [\d.]+\), ', log_of(runner))


@pytest.mark.parametrize(
    ('focus', 'message'),
    [
        (dict(routes=7), r'focus\.routes must be at most 6, the number of routes with a switch, got 7'),
        (dict(routes=2, anchors=True), r'focus\.anchors=True has nothing to train: anchors of an exact model'),
        (['s[0:3]'], r'nothing to train in s\[0:3\]'),
        (['s[0:7]'], 'unknown route'),
        ([], 'selects none'),
    ],
)
def test_what_cannot_be_trained_is_refused_before_the_least_squares_start(make_exact, monkeypatch, focus, message):
    monkeypatch.setattr('mmsnnet.engine.hooks.start_from_least_squares', lambda *_: pytest.fail('it has started'))
    with pytest.raises(UserError, match=message) as error:
        train(make_exact(focus))
    assert '\n' not in str(error.value)


def test_bad_settings_are_refused_when_the_hook_is_built(make_focused):
    with pytest.raises(ValueError, match=r"focus\.by must be one of .*, got 'luck'"):
        Runner.from_cfg(make_focused(dict(routes=2, by='luck')))


def test_records_of_a_test_say_which_routes_were_trained(make_focused, tmp_path):
    trained, _ = train(make_focused([2, 5]))
    checkpoint = f'{trained.work_dir}/iter_4.pth'

    def records_of(name: str) -> Sequence[Record]:
        runner = Runner.from_cfg(make_focused([2, 5], work_dir=str(tmp_path / name), load_from=checkpoint))
        runner.test()
        return read_records(next(Path(runner.work_dir).rglob('stitches.json')))

    assert {record.id: record.trained for record in records_of('new')} == {id_: id_ in (2, 5) for id_ in range(8)}
    # A checkpoint from before they were noted.
    content = torch.load(checkpoint, weights_only=True)
    del content['trained_routes']
    torch.save(content, checkpoint)
    assert {record.trained for record in records_of('old')} == {None}
    assert '"trained"' not in next((tmp_path / 'old').rglob('stitches.json')).read_text()


def as_dino(cfg: Config) -> Config:
    """The toy detector as DINO, whose losses are those of training mode only."""
    model = Config.fromfile(Path(__file__).parents[2] / 'configs' / '_base_' / 'models' / 'dino-4scale_vit.py').model
    model.data_preprocessor, model.backbone = cfg.model.data_preprocessor, cfg.model.backbone
    model.neck.in_channels = cfg.model.neck.in_channels
    model.encoder.num_layers = model.decoder.num_layers = 1
    model.encoder.layer_cfg.ffn_cfg.feedforward_channels = model.decoder.layer_cfg.ffn_cfg.feedforward_channels = 32
    model.bbox_head.num_classes = cfg.model.roi_head.bbox_head.num_classes
    model.num_queries, model.test_cfg.max_per_img = 10, 10
    cfg.model = model
    cfg.val_evaluator.metric = cfg.test_evaluator.metric = 'bbox'
    return cfg


@pytest.mark.parametrize('change', [lambda cfg: cfg, as_dino], ids=['Mask R-CNN', 'DINO'])
def test_a_detector_chooses_by_loss(make_detection_config, change):
    cfg = change(make_detection_config())
    cfg.custom_hooks[0].focus = dict(routes=1, images=2)
    runner, drawn = train(cfg)
    assert len(last_checkpoint(runner)['trained_routes']) == 3
    _, drawn_again = train(cfg)
    assert drawn == drawn_again
    # What losses draw at random does not depend on which routes came before.
    routes, state = list(find_backbone(runner.model).space), torch.get_rng_state()
    together = focus_module.route_losses(runner, routes, 2, seed=3)
    assert {route.id: focus_module.route_losses(runner, [route], 2, seed=3)[route.id] for route in routes} == together
    assert torch.equal(torch.get_rng_state(), state)
