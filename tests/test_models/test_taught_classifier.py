"""A classifier with a teacher: what its loss is, and where the teacher is not."""

import copy

import pytest
import timm
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmpretrain.structures import DataSample
from torch import Tensor
from toy_classification_job import teach
from toys import randomise, toy_images

from mmsnnet.building import build_model
from mmsnnet.errors import UserError
from mmsnnet.models import find_backbone
from mmsnnet.models.taught_classifier import TaughtClassifier
from mmsnnet.models.teachers import create_teacher


@pytest.fixture
def cfg(make_classification_config, tmp_path) -> Config:
    return teach(make_classification_config(), tmp_path)


def untrained(cfg: Config) -> TaughtClassifier:
    """The model as MMEngine's runner builds it."""
    init_default_scope('mmpretrain')
    return MODELS.build(copy.deepcopy(cfg.model))


def taught(cfg: Config) -> TaughtClassifier:
    """The model as it starts to train, but for other random weights."""
    model = untrained(cfg)
    model.init_weights()
    return randomise(model).train()


def mixed_samples(scores: Tensor) -> list[DataSample]:
    return [DataSample().set_gt_score(score) for score in scores]


def test_half_of_the_loss_is_of_the_teacher_s_class(cfg):
    model, images = taught(cfg), toy_images(32, 32, batch=5)
    scores = torch.rand(5, 3).softmax(1)
    teacher = create_teacher(**cfg.model.teacher)
    for route in ('s[0:2]', 'l[0:2]-s[1:2]', 'l[0:4]'):
        find_backbone(model).set_route(route)
        losses = model(images, mixed_samples(scores), mode='loss')
        log_probabilities = model(images).log_softmax(1)
        smoothed = 0.9 * scores + 0.1 / 3
        by_labels = -(smoothed * log_probabilities).sum(1).mean()
        by_teacher = -log_probabilities[range(5), teacher(images).argmax(1)].mean()
        assert losses.keys() == {'labels.loss', 'teacher.loss'}
        torch.testing.assert_close(losses['labels.loss'], by_labels / 2)
        torch.testing.assert_close(losses['teacher.loss'], by_teacher / 2)
        total, logged = model.parse_losses(losses)
        torch.testing.assert_close(total, (by_labels + by_teacher) / 2)
        assert logged['loss'] == total


def test_the_teacher_is_frozen_and_no_part_of_the_model(cfg):
    model = taught(cfg)
    alone = build_model(copy.deepcopy(cfg))
    assert model.state_dict().keys() == alone.state_dict().keys()
    assert len(list(model.parameters())) == len(list(alone.parameters()))
    (teacher,) = model._teachers
    model(toy_images(32, 32), mixed_samples(torch.eye(3)[:2]), mode='loss')['teacher.loss'].backward()
    assert not teacher.training
    assert all(not parameter.requires_grad and parameter.grad is None for parameter in teacher.parameters())
    assert model.double()._teachers[0].head.weight.dtype is torch.float64


def test_there_is_no_teacher_before_training_starts(cfg):
    cfg.model.teacher.file = 'missing.pth'
    model, samples = untrained(cfg), mixed_samples(torch.eye(3)[:2])
    images = toy_images(32, 32)
    assert model(images).shape == (2, 3)
    assert len(model(images, samples, mode='predict')) == 2
    with pytest.raises(UserError, match='the teacher is not loaded'):
        model(images, samples, mode='loss')


def test_without_a_teacher_the_labels_teach_alone(cfg):
    cfg.model.pop('teacher')
    model, samples = taught(cfg), mixed_samples(torch.eye(3)[:2])
    losses = model(toy_images(32, 32), samples, mode='loss')
    assert losses == model.head.loss(model.extract_feat(toy_images(32, 32)), samples)


@pytest.mark.parametrize(
    ('changes', 'error', 'message'),
    [
        ({'teacher.file': 'none.pth'}, FileNotFoundError, "no weight file of the teacher at 'none.pth'"),
        ({'teacher.model': 'no_such_net'}, UserError, "timm cannot create the teacher 'no_such_net' .*local file"),
        ({'teacher.embed_dim': 16}, UserError, 'timm cannot create the teacher .*size mismatch'),
        ({'head.heads.0.num_classes': 7, 'head.heads.1.num_classes': 7}, UserError, 'has 3 classes, the head 7'),
        ({'data_preprocessor.std': [60.0] * 3}, UserError, r'mean and std \[127.5, .*127.5\], .* by \[127.5,.* 60.0\]'),
        ({'data_preprocessor': dict(_delete_=True)}, UserError, r'data_preprocessor normalises by \[\]'),
        ({'teacher': 'regnety_160'}, UserError, "must be a dict with the name of a timm model .*got 'regnety_160'"),
        ({'teacher': dict(_delete_=True, file='a.pth')}, UserError, "as 'model', got {'file': 'a.pth'}"),
    ],
)
def test_refuses_a_teacher_that_does_not_fit(cfg, changes, error, message):
    cfg.merge_from_dict({f'model.{name}': value for name, value in changes.items()})
    with pytest.raises(error, match=message) as raised:
        taught(cfg)
    assert '\n' not in str(raised.value)


def test_refuses_pretrained_weights_for_other_classes(monkeypatch):
    """timm would put a random classifier in the place of theirs."""
    create = timm.create_model
    monkeypatch.setattr(timm, 'create_model', lambda name, **kwargs: create(name, **{**kwargs, 'pretrained': False}))
    with pytest.raises(UserError, match="weights of 'vit_tiny_patch16_224' are for 1000 classes, not 3: leave out num"):
        create_teacher('vit_tiny_patch16_224', num_classes=3, embed_dim=12, depth=1)
