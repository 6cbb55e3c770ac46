"""Depth estimation as a task: whole models, what they predict, export and cost, and checks before a run."""

import tempfile
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine.dataset import ConcatDataset
from mmengine.registry import DefaultScope
from mmseg.datasets import NYUDataset
from toy_depth import HEADS, WIDTH, depth_samples, levels, toy_estimator
from toys import randomise, toy_images

from mmsnnet.engine.checks import check_heads
from mmsnnet.engine.depth_check import check_depths
from mmsnnet.engine.exit_checks import wanted_channels
from mmsnnet.errors import UserError
from mmsnnet.evaluation.profiling.training_memory import TrainingSetting, predict_training_memory
from mmsnnet.export import Predictor, export_onnx, export_program
from mmsnnet.models import PerExit
from mmsnnet.models.blank_batch import blank_batch
from mmsnnet.models.exits import ExitMaps
from mmsnnet.models.flop_counter import model_cost
from mmsnnet.models.tasks import task_of
from mmsnnet.stitching import Exit

SIZE = (32, 40)


def predicted(model: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    samples = depth_samples(len(images), tuple(images.shape[2:]))
    with torch.no_grad():
        return torch.stack([sample.pred_depth_map.data for sample in model(images, samples, mode='predict')])


@pytest.mark.parametrize('head', HEADS)
@pytest.mark.parametrize('batch', [1, 2, 3])
def test_a_model_trains_and_predicts_depth_of_the_images_size(head, batch):
    model, images = toy_estimator(head, max_depth=3.0), toy_images(*SIZE, batch=batch)
    losses = model.train()(images, depth_samples(batch, SIZE), mode='loss')
    assert list(losses) == ['decode.loss_sig']
    losses['decode.loss_sig'].backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert model.decode_head.loss_decode.iterations == 1
    depth = predicted(model.eval(), images)
    assert depth.shape == (batch, 1, *SIZE)
    assert 1e-3 <= depth.min() < depth.max() <= 3.0
    with torch.no_grad():
        torch.testing.assert_close(task_of(model).logits(images), depth)


@pytest.mark.parametrize('head', HEADS)
def test_slide_flip_is_the_mean_with_the_mirrored_prediction(head):
    whole = toy_estimator(head)
    mirrored = toy_estimator(head, test_cfg=dict(mode='slide_flip', crop_size=SIZE, stride=SIZE))
    images = toy_images(*SIZE)
    expected = (predicted(whole, images) + predicted(whole, images.flip(3)).flip(3)) / 2
    torch.testing.assert_close(predicted(mirrored, images), expected)
    assert not torch.allclose(expected, predicted(whole, images))


def test_the_task_is_depth():
    task = task_of(toy_estimator())
    assert (task.name, task.has_logits, task.output_name) == ('depth estimator', True, 'depth')
    assert task.outputs(toy_images(*SIZE)).shape == (2, 1, 64, 96)


@pytest.mark.parametrize('head', HEADS)
def test_cost_is_that_of_the_tensors_it_computes(head):
    model = toy_estimator(head)
    cost = model_cost(model, SIZE)
    assert cost.params == sum(parameter.numel() for parameter in model.parameters())
    assert cost.flops > 4 * 5 * WIDTH * 3 * 8 * 8


@pytest.mark.parametrize('head', HEADS)
def test_training_memory_is_predicted_and_leaves_the_warm_up_as_it_is(head):
    model = toy_estimator(head)
    optimizer = torch.optim.AdamW(model.parameters())
    memory = predict_training_memory(model, optimizer, TrainingSetting(SIZE, 2))
    assert memory.activations > 2 * 3 * SIZE[0] * SIZE[1] * 4
    assert model.decode_head.loss_decode.iterations == 0


def test_a_blank_batch_has_depth_where_a_model_estimates_it():
    _, (sample,) = blank_batch(toy_estimator(), 1, SIZE, 'cpu')
    assert torch.equal(sample.gt_depth_map.data, torch.ones(1, *SIZE))
    _, (sample,) = blank_batch(torch.nn.Linear(1, 1), 1, SIZE, 'cpu')
    assert 'gt_depth_map' not in sample


@pytest.mark.parametrize('head', HEADS)
def test_a_program_gives_the_same_depth(head, tmp_path):
    predictor, images = Predictor(toy_estimator(head)), toy_images(*SIZE)
    program = export_program(predictor, images, tmp_path / 'depth.pt2')
    with torch.no_grad():
        torch.testing.assert_close(program(images[:1]), predictor(images[:1]))


def test_an_onnx_file_names_its_output_depth(tmp_path):
    onnxruntime = pytest.importorskip('onnxruntime', reason="needs pip install -e '.[export]' -c constraints.txt")
    pytest.importorskip('onnxscript')
    predictor, images = Predictor(toy_estimator('linear')), toy_images(*SIZE)
    file = export_onnx(predictor, images, tmp_path / 'depth.onnx', dynamic_batch=False)
    with torch.no_grad():
        torch.testing.assert_close(file(images), predictor(images), atol=1e-4, rtol=1e-4)
    session = onnxruntime.InferenceSession(tmp_path / 'depth.onnx', providers=['CPUExecutionProvider'])
    assert [output.name for output in session.get_outputs()] == ['depth']


def test_per_exit_holds_heads_of_depth():
    config = dict(type='LinearDepthHead', num_bins=4, in_channels=WIDTH)
    heads = randomise(PerExit([config, {**config, 'num_bins': 8}])).eval()
    assert (heads.out_channels, heads.align_corners) == (1, False)
    given = levels()
    for anchor in range(2):
        maps = ExitMaps(given, Exit(anchor))
        assert torch.equal(heads(maps), heads.anchors[anchor](given))
        losses = heads.train().loss(maps, depth_samples(2, SIZE), {})
        assert list(losses) == ['loss_sig']
        assert [int(head.loss_decode.iterations) for head in heads.anchors] == [1, anchor]
        heads.eval()
        assert heads.predict(maps, [dict(img_shape=SIZE)] * 2, {}).shape == (2, 1, *SIZE)


def test_width_checks_know_what_heads_of_depth_read():
    dpt, linear = HEADS['dpt'](), HEADS['linear']()
    four = HEADS['linear'](in_index=(0, 1, 2, 3), readout='concat')
    for head in (dpt, linear, four):
        assert wanted_channels(head, [WIDTH] * 4) is None
    assert [wanted_channels(head, [16] * 4) for head in (dpt, linear)] == [16, 16]
    with pytest.raises(UserError, match='3 levels leave the backbone'):
        wanted_channels(dpt, [WIDTH] * 3)


@pytest.fixture
def nyu(tmp_path):
    """A function that writes depth maps of one value, a part of them not measured, and gives their data set."""
    for folder in ('images', 'annotations'):
        (tmp_path / folder).mkdir()
    for index in range(2):
        cv2.imwrite(str(tmp_path / 'images' / f'kitchen_{index}.jpg'), np.zeros((4, 6, 3), np.uint8))

    def make(value: int, factor: float = 1e-3) -> NYUDataset:
        folder = Path(tempfile.mkdtemp(dir=tmp_path / 'annotations'))
        for index in range(2):
            depth = np.full((4, 6), value, np.uint16)
            depth[:3] = 0
            cv2.imwrite(str(folder / f'kitchen_{index}.png'), depth)
        pipeline = [
            dict(type='LoadImageFromFile'),
            dict(type='LoadDepthAnnotation', depth_rescale_factor=factor),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackSegInputs'),
        ]
        prefix = dict(img_path='images', depth_map_path=f'annotations/{folder.name}')
        with DefaultScope.overwrite_default_scope('mmseg'):
            return NYUDataset(data_root=str(tmp_path), data_prefix=prefix, pipeline=pipeline)

    return make


def test_depth_in_metres_passes_and_draws_no_random_numbers(nyu):
    state = np.random.get_state()[1].copy()
    check_depths(toy_estimator(), [ConcatDataset([nyu(2870), nyu(2870)])])
    assert np.array_equal(np.random.get_state()[1], state)


@pytest.mark.parametrize('factor', [1.0, 1e-7], ids=['millimetres', 'rescaled twice'])
def test_refuses_depth_in_another_unit(nyu, factor):
    with pytest.raises(
        UserError, match=rf'have a median of {2870 * factor:g}, but the head predicts 0\.001 to 10 metres'
    ):
        check_depths(toy_estimator(), [ConcatDataset([nyu(2870), nyu(2870, factor)])])


def test_refuses_depth_that_is_zero_everywhere(nyu):
    with pytest.raises(UserError, match=r'kitchen_0\.png, are 0 everywhere'):
        check_depths(toy_estimator(), [nyu(0)])


def test_limits_are_those_of_the_heads_of_each_exit(nyu):
    model = toy_estimator()
    model.decode_head = PerExit([dict(type='LinearDepthHead', num_bins=4, in_channels=WIDTH, max_depth=80.0)] * 2)
    check_depths(model, [nyu(28700)])
    with pytest.raises(UserError, match='median of 90'):
        check_depths(model, [nyu(30000, 3e-3)])


def test_other_models_and_data_without_depth_pass(nyu):
    check_depths(torch.nn.Linear(1, 1), [nyu(2870, 1.0)])
    dataset = nyu(0)
    dataset.pipeline.transforms.pop(1)
    check_depths(toy_estimator(), [dataset])


def test_kinds_of_rooms_are_no_classes_of_depth(nyu):
    runner = SimpleNamespace(model=toy_estimator(), test_dataloader=SimpleNamespace(dataset=nyu(2870)))
    check_heads(runner)
