"""Pictures of samples of each task, how small they are made, and the page that shows them, opened in a browser."""

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import mmcv
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import BaseDataElement, InstanceData, PixelData
from mmpretrain.structures import DataSample
from mmseg.structures import SegDataSample
from report_pages import SPACE, emit, make_records, rows, text

from mmsnnet.errors import UserError
from mmsnnet.evaluation import Pictures, draw_pictures, write_full_report
from mmsnnet.evaluation.reports import html_report
from mmsnnet.evaluation.reports.drawing import LONGEST_SIDE, Canvas
from mmsnnet.evaluation.reports.html_report import MAX_MB, write_html
from mmsnnet.evaluation.reports.pictures import QUALITIES
from mmsnnet.stitching import Record

META = {'classes': ('ground', 'sky'), 'palette': [[200, 0, 0], [0, 0, 200]]}
SIZE = (60, 80)
# Black pictures of the size have this size.
SHOWN = (LONGEST_SIDE * 3 // 4, LONGEST_SIDE, 3)


@pytest.fixture
def image(tmp_path) -> str:
    """The path of a grey image."""
    path = tmp_path / 'a picture.png'
    cv2.imwrite(str(path), np.full((*SIZE, 3), 90, np.uint8))
    return str(path)


def labelled(image: str, edge: int) -> SegDataSample:
    """Class 1 left of an edge; in truth left of 40, and the first rows do not count."""
    truth = torch.zeros(1, *SIZE, dtype=torch.long)
    truth[..., :40], truth[:, :10] = 1, 255
    predicted = torch.zeros_like(truth)
    predicted[..., :edge] = 1
    sample = SegDataSample(metainfo=dict(img_path=image, ori_shape=SIZE))
    return sample.set_data({'gt_sem_seg': PixelData(data=truth), 'pred_sem_seg': PixelData(data=predicted)}) or sample


def with_depth(image: str, metres: float, truth: np.ndarray | None = None) -> SegDataSample:
    """The same depth everywhere."""
    sample = SegDataSample(metainfo=dict(img_path=image, ori_shape=SIZE))
    sample.pred_depth_map = PixelData(data=torch.full((1, *SIZE), metres))
    if truth is not None:
        sample.gt_depth_map = PixelData(data=torch.as_tensor(truth)[None])
    return sample


def with_boxes(image: str, scores: list[float]) -> DetDataSample:
    """Objects one beside the other, each a box of 20 x 40 with a mask of its upper half; in truth the first."""
    boxes = torch.tensor([[20.0 * index, 10, 20.0 * index + 20, 50] for index in range(len(scores))]).reshape(-1, 4)
    masks = torch.zeros(len(scores), *SIZE, dtype=torch.bool)
    for index in range(len(scores)):
        masks[index, 10:30, 20 * index : 20 * index + 20] = True
    labels = torch.zeros(len(scores), dtype=torch.long)
    sample = DetDataSample(metainfo=dict(img_path=image, ori_shape=SIZE))
    sample.pred_instances = InstanceData(bboxes=boxes, labels=labels, scores=torch.tensor(scores), masks=masks)
    of_truth = BitmapMasks(masks[:1].numpy().astype(np.uint8), *SIZE)
    sample.gt_instances = InstanceData(bboxes=boxes[:1], labels=labels[:1], masks=of_truth)
    return sample


def test_segmentation_shows_the_palette(image):
    sample = labelled(image, 20)
    canvas = Canvas.of(sample, META)
    predicted, truth = canvas.draw_prediction(sample).image, canvas.draw_truth(sample).image
    assert predicted.shape == truth.shape == canvas.image.shape == SHOWN
    red, blue, black = [200, 0, 0], [0, 0, 200], [0, 0, 0]
    assert [predicted[200, x].tolist() for x in (70, 90, 300)] == [blue, red, red]
    assert [truth[y, x].tolist() for y, x in ((200, 150), (200, 170), (10, 10))] == [blue, red, black]
    assert canvas.legend == {'ground': '#c80000', 'sky': '#0000c8'}


def test_depth_has_one_scale_for_the_truth_and_all_routes(image):
    truth = np.linspace(2, 5, 80, dtype=np.float32)[None].repeat(60, axis=0)
    truth[:10] = 0
    samples = [with_depth(image, metres, truth) for metres in (2, 3.5, 5, 70)]
    canvas = Canvas.of(samples[0], {})
    drawn_truth = canvas.draw_truth(samples[0])
    assert drawn_truth.text == '2 m (dark) .. 5 m (bright)'
    colours = [canvas.draw_prediction(sample).image[100, 100].astype(int) for sample in samples]
    for colour, x in zip(colours, (0, 159, 319), strict=False):
        assert abs(drawn_truth.image[100, x] - colour).max() < 8
    # What is farther than all truth looks like the farthest.
    assert (colours[3] == colours[2]).all()
    assert [colour.sum() for colour in colours[:3]] == sorted(colour.sum() for colour in colours[:3])
    assert (drawn_truth.image[5] == 0).all()
    # Without truth the first prediction gives the scale.
    sample = with_depth(image, 4)
    assert Canvas.of(sample, {}).draw_prediction(sample).text == '4 m (dark) .. 4 m (bright)'
    assert Canvas.of(sample, {}).draw_truth(sample) is None


def test_depth_in_half_precision_is_drawn_alike(image):
    sample = with_depth(image, 4)
    expected = Canvas.of(sample, {}).draw_prediction(sample).image
    sample.pred_depth_map.data = sample.pred_depth_map.data.bfloat16()
    assert (Canvas.of(sample, {}).draw_prediction(sample).image == expected).all()


def test_detection_shows_boxes_and_masks_above_a_score(image):
    sample = with_boxes(image, [0.9, 0.31, 0.29])
    canvas = Canvas.of(sample, META)
    changed = (canvas.draw_prediction(sample).image != canvas.image).any(axis=-1)
    # Inside the masks of three objects, and in the lower half of the first box.
    assert [bool(changed[100, x]) for x in (60, 140, 220)] == [True, True, False]
    assert not changed[170, 30:50].any()
    truth = (canvas.draw_truth(sample).image != canvas.image).any(axis=-1)
    assert [bool(truth[100, x]) for x in (60, 140)] == [True, False]
    # The lower edge of the first box.
    assert truth[199:202, 40].any()


@pytest.mark.parametrize('palette', [META['palette'], META['palette'][:1], [], None])
def test_detection_shows_boxes_whatever_colours_a_data_set_has(image, palette):
    sample = with_boxes(image, [0.9])
    sample.pred_instances.labels[0] = 1
    canvas = Canvas.of(sample, {**META, 'palette': palette})
    assert (canvas.draw_prediction(sample).image[100, 60] != canvas.image[100, 60]).any()


def test_a_picture_without_objects_stays_as_it_is(image):
    sample = with_boxes(image, [])
    canvas = Canvas.of(sample, META)
    for drawing in (canvas.draw_prediction(sample), canvas.draw_truth(sample)):
        assert abs(drawing.image.astype(int) - canvas.image).max() < 3


def test_classification_names_the_likeliest_classes(image):
    sample = DataSample(metainfo=dict(img_path=image)).set_gt_label(1).set_pred_score(torch.tensor([0.75, 0.25]))
    canvas = Canvas.of(sample, META)
    assert canvas.draw_prediction(sample) == (None, 'ground 0.75, sky 0.25')
    assert canvas.draw_truth(sample) == (None, 'sky')
    assert Canvas.of(sample, {}).draw_truth(sample).text == 'class 1'


@pytest.mark.parametrize(
    ('sample', 'message'),
    [
        (BaseDataElement(metainfo=dict(img_path='x.png'), pred_text='word'), 'this model predicts pred_text'),
        (DataSample().set_pred_score(torch.tensor([1.0])), 'this data set names none: leave --pictures out'),
    ],
)
def test_what_cannot_be_drawn_is_refused(sample, message):
    with pytest.raises(UserError, match=message):
        Canvas.of(sample, META)


# The size of the file


def noisy_predictions(folder: Path, count: int, routes: int) -> Iterator[tuple]:
    """Of pictures of noise, which take much space."""
    rng = np.random.default_rng(0)
    for index in range(count):
        path = folder / f'{index}.png'
        cv2.imwrite(str(path), rng.integers(0, 255, (240, 320, 3)).astype(np.uint8))
        for route in SPACE[:routes]:
            sample = SegDataSample(metainfo=dict(img_path=str(path), ori_shape=(240, 320)))
            labels = torch.from_numpy(rng.integers(0, 2, (1, 240, 320)))
            yield route, sample.set_data({'pred_sem_seg': PixelData(data=labels)}) or sample


def test_pictures_become_smaller_until_they_fit(tmp_path):
    sizes = []
    for max_mb in (5, 0.4, 0.1):
        pictures = draw_pictures(noisy_predictions(tmp_path, 2, 3), META, max_mb)
        assert [len(picture.routes) for picture in pictures.pictures] == [3, 3]
        assert [picture.truth for picture in pictures.pictures] == [None, None]
        assert sum(map(len, pictures.images)) <= max_mb * 1e6
        shapes = {decode(uri).shape for uri in pictures.images}
        assert shapes == {(pictures.quality.longest_side * 3 // 4, pictures.quality.longest_side, 3)}
        sizes.append(pictures.quality)
    assert sizes[0] == QUALITIES[0]
    assert [QUALITIES.index(quality) for quality in sizes] == sorted({QUALITIES.index(quality) for quality in sizes})


def decode(uri: str) -> np.ndarray:
    return mmcv.imfrombytes(base64.b64decode(uri.removeprefix('data:image/webp;base64,')))


def test_too_many_pictures_are_refused_with_the_number_that_fits(tmp_path):
    one = sum(map(len, draw_pictures(noisy_predictions(tmp_path, 1, 3), META, 0.02).images)) / 1e6
    with pytest.raises(UserError, match='ask for --pictures 2; with --resume, nothing is evaluated again'):
        draw_pictures(noisy_predictions(tmp_path, 4, 3), META, 2.5 * one)
    assert len(draw_pictures(noisy_predictions(tmp_path, 2, 3), META, 2.5 * one).pictures) == 2
    with pytest.raises(UserError, match='those of 0 images do: leave --pictures out'):
        draw_pictures(noisy_predictions(tmp_path, 1, 3), META, one / 2)


def with_words(folder: Path, count: int, routes: int) -> Iterator[tuple]:
    """Of a classifier that is sure of nothing."""
    for route, sample in noisy_predictions(folder, count, routes):
        scores = torch.full((len(ODD_CLASSES),), 1 / len(ODD_CLASSES))
        yield route, DataSample(metainfo=dict(img_path=sample.img_path)).set_gt_label(0).set_pred_score(scores)


# Characters that take more space in a page.
ODD_CLASSES = [f"{index} <it's> é&" for index in range(2000)]


@pytest.mark.parametrize(
    ('predictions', 'meta'),
    [
        (noisy_predictions, META),
        (noisy_predictions, {'classes': ODD_CLASSES, 'palette': [[0, 0, 0]] * len(ODD_CLASSES)}),
        (with_words, {'classes': ODD_CLASSES}),
    ],
    ids=['images', 'colours', 'words'],
)
def test_pictures_become_smaller_once_the_page_would_be_too_large(predictions, meta, tmp_path, monkeypatch):
    def size(max_bytes: float) -> int:
        """Of a page that may have so many bytes."""
        monkeypatch.setattr(html_report, 'MAX_MB', max_bytes / 1e6)

        def make(records: list[Record], max_mb: float) -> Pictures:
            return draw_pictures(predictions(tmp_path, 2, 3), meta, max_mb)

        write_full_report(make_records(), tmp_path / 'out', make_pictures=make)
        return (tmp_path / 'out' / 'report.html').stat().st_size

    best = size(4e6)
    # A few commas are counted that the page does not have.
    assert size(best + 10) == best
    assert size(best - 1) < best - 1000


def test_a_page_with_many_pictures_has_5_mb_at_most(tmp_path):
    qualities = []

    def make(records: list[Record], max_mb: float) -> Pictures:
        pictures = draw_pictures(noisy_predictions(tmp_path, 7, len(records)), META, max_mb)
        qualities.append(pictures.quality)
        return pictures

    write_full_report(make_records(), tmp_path / 'out', make_pictures=make)
    assert (tmp_path / 'out' / 'report.html').stat().st_size <= 5e6
    # More would not have fit.
    assert qualities != [QUALITIES[0]]


def test_a_page_that_is_too_large_without_pictures_refuses_them(tmp_path, monkeypatch):
    monkeypatch.setattr(html_report, 'MAX_MB', 1)
    with pytest.raises(UserError, match=r'do not fit into 0 MB, those of 0 images do: leave --pictures out'):
        write_full_report(
            make_records(),
            tmp_path / 'out',
            make_pictures=lambda _, max_mb: draw_pictures(noisy_predictions(tmp_path, 1, 1), META, max_mb),
        )


# In a browser


def of_routes(image: str, make) -> Iterator[tuple]:
    return ((route, make(image, route.id)) for route in SPACE)


@pytest.fixture
def page(open_page, image, tmp_path):
    """A report with one picture, of which each route predicts another edge; routes 0 and 1 are on the front."""
    pictures = draw_pictures(of_routes(image, lambda image, id_: labelled(image, 10 + 8 * id_)), META, MAX_MB)
    write_html(make_records(), 'mIoU', tmp_path / 'report.html', pictures=pictures)
    return open_page(tmp_path / 'report.html')


def shown(page) -> list[tuple[str, str, str]]:
    images = page.find_elements('css selector', '#pictures img')
    return [tuple(image.get_attribute(name) for name in ('class', 'alt', 'src')) for image in images]


def press(page, key: str) -> None:
    from selenium.webdriver.common.keys import Keys

    page.find_element('id', 'along').send_keys(getattr(Keys, key))


def test_the_slider_goes_along_the_front(page):
    name = SPACE[1].name
    assert text(page, '#shown') == f'{name} · GFLOPs 11 · mIoU 50'
    best = shown(page)
    assert [part[:2] for part in best] == [
        ('original', 'original of a picture'),
        ('truth', 'ground truth of a picture'),
        ('prediction', f'prediction of {name} of a picture'),
    ]
    press(page, 'ARROW_LEFT')
    assert text(page, '#shown') == f'{SPACE[0].name} · GFLOPs 10 · mIoU 30'
    cheapest = shown(page)
    assert cheapest[:2] == best[:2]
    assert cheapest[2][2] != best[2][2]
    assert rows(page, 'chosen')[1][0] == SPACE[0].name
    press(page, 'END')
    assert shown(page) == best


def test_a_dot_shows_any_route(page):
    before = shown(page)
    emit(page, 'plotly_click', f"{{points: [{{customdata: [4, '{SPACE[4].name}']}}]}}")
    assert text(page, '#shown') == f'{SPACE[4].name} · GFLOPs 14 · mIoU 40 · not on the front'
    assert shown(page)[2][2] != before[2][2]
    # The ring is around the dot, and the slider where as much is paid.
    ring = page.execute_script("return document.getElementById('pareto').layout.shapes[0]")
    assert (ring['xanchor'], ring['yanchor']) == (14, 40)
    assert page.find_element('id', 'along').get_attribute('value') == '1'
    page.find_element('css selector', '#axes button[data-cost=latency_ms]').click()
    assert text(page, '#shown') == f'{SPACE[4].name} · latency (ms) 16 · mIoU 40 · not on the front'
    assert page.find_element('id', 'along').get_attribute('max') == '2'


def test_page_with_pictures_fits_its_window_and_has_labels(page):
    slider = page.find_element('id', 'along')
    assert page.find_element('css selector', 'label[for=along]').text
    assert slider.get_attribute('aria-valuetext') == f'{SPACE[1].name}, GFLOPs 11, mIoU 50'
    assert [item.text for item in page.find_elements('css selector', '#legend li')] == ['ground', 'sky']
    for _ in range(2):
        widths = page.execute_script('return [document.documentElement.scrollWidth, window.innerWidth]')
        assert widths[0] <= widths[1]
        seen = page.find_elements('css selector', '#pictures img')[-1].rect
        assert seen['width'] > 80
        assert seen['x'] + seen['width'] <= widths[1]
        page.find_element('id', 'large').click()
    sizes = "return [...document.querySelectorAll('#pictures img')].map(image => image.naturalWidth)"
    assert page.execute_script(sizes) == [LONGEST_SIDE] * 3
    assert [entry for entry in page.get_log('browser') if entry['level'] == 'SEVERE'] == []


def test_classes_are_words_under_the_picture(open_page, image, tmp_path):
    def make(image: str, id_: int) -> DataSample:
        scores = torch.tensor([id_, 8 - id_]) / 8
        return DataSample(metainfo=dict(img_path=image)).set_gt_label(0).set_pred_score(scores)

    pictures = draw_pictures(of_routes(image, make), META, MAX_MB)
    write_html(make_records(), 'mIoU', tmp_path / 'r.html', pictures=pictures)
    page = open_page(tmp_path / 'r.html')
    words = 'return [...document.querySelectorAll("#pictures figcaption")].map(item => item.textContent)'
    first = ['a picture', 'ground truth: ground']
    assert page.execute_script(words) == [*first, 'prediction: sky 0.88, ground 0.12']
    press(page, 'HOME')
    assert page.execute_script(words) == [*first, 'prediction: sky 1.00, ground 0.00']
    assert len(shown(page)) == 1


# Errors instead of scores


def depth_records() -> list[Record]:
    """Records as a benchmark of depth writes them: the more a route costs, the less it errs, but for the fourth."""
    errors = [0.52, 0.45, 0.5, 0.51, 0.43, 0.42, 0.41, 0.4]
    metrics = [{'d1': 1.3 - error, 'abs_rel': error / 3, 'rmse': error, 'rmse_log': error / 4} for error in errors]
    return [
        replace(record, metrics=scores, classes=None) for record, scores in zip(make_records(), metrics, strict=True)
    ]


def test_of_an_error_the_lowest_is_best(open_page, image, tmp_path):
    truth = np.linspace(1, 9, 80, dtype=np.float32)[None].repeat(60, axis=0)
    pictures = draw_pictures(of_routes(image, lambda image, id_: with_depth(image, 1.0 + id_, truth)), {}, MAX_MB)
    write_full_report(depth_records(), tmp_path, make_pictures=lambda *_: pictures)
    page = open_page(tmp_path / 'report.html')
    assert text(page, '#pareto .ytitle') == 'rmse (lower is better)'
    assert 'its rmse is no higher' in text(page, '.note')
    assert [row[1] for row in rows(page, 'front')[1:]] == ['0', '1', '4', '5', '6', '7']
    # Chosen at first: the best.
    assert text(page, '#shown') == f'{SPACE[7].name} · GFLOPs 17 · rmse 0.4'
    assert 'rmse 0.4' in page.execute_script("return document.getElementById('pareto').data.at(-1).text.at(-1)")
    assert shown(page)[1][0] == 'truth'
    assert '1 m (dark) .. 9 m (bright)' in text(page, '#pictures')
    press(page, 'HOME')
    assert text(page, '#shown') == f'{SPACE[0].name} · GFLOPs 10 · rmse 0.52'


def test_page_with_pictures_needs_nothing_from_elsewhere(image, tmp_path):
    pictures = draw_pictures(of_routes(image, lambda image, id_: labelled(image, 10 + 8 * id_)), META, MAX_MB)
    write_html(make_records(), 'mIoU', tmp_path / 'report.html', pictures=pictures)
    page = (tmp_path / 'report.html').read_text()
    assert not re.search(r'<(script|link|img|iframe)[^>]+(src|href)=', page)
    (data,) = re.findall(r'^const pictures = (.*);$', page, re.MULTILINE)
    assert all(uri.startswith('data:image/webp;base64,') for uri in json.loads(data)['images'])
