"""``tools/cut_squares.py`` on the toy data set: halves of two classes below a strip of a third one."""

from pathlib import Path

import cv2
import pytest
from mmengine.registry import DATASETS, init_default_scope
from toy_job import assert_one_line

CUT = ('--side', 16, '--middle', 4, '--per-image', 2, '--fewest', 20)


@pytest.fixture
def cut(run_tool, config_file, tmp_path):
    """Run the tool; returns the folder it wrote."""

    def run(*words, name: str = 'squares') -> Path:
        run_tool('cut_squares', config_file(), '--out', tmp_path / name, *CUT, *words)
        return tmp_path / name

    return run


def pictures(folder: Path) -> list[Path]:
    return sorted(path.relative_to(folder) for path in folder.rglob('*.jpg'))


def test_a_square_is_of_the_class_in_its_middle(cut, data_root):
    folder = cut()
    for path in pictures(folder):
        split, name, file = path.parts
        image, top, left = Path(file).stem.split('_')
        labels = cv2.imread(str(data_root / 'annotations' / split / f'{image}.png'), cv2.IMREAD_UNCHANGED)
        middle = labels[int(top) + 6 : int(top) + 10, int(left) + 6 : int(left) + 10]
        assert (middle == ('ground', 'left', 'right').index(name)).all()
        square = cv2.imread(str(data_root / 'images' / split / f'{image}.png'))[int(top) :, int(left) :][:16, :16]
        assert abs(cv2.imread(str(folder / path)).astype(int) - square).mean() < 20


def test_the_same_data_give_the_same_squares_in_equal_numbers(cut):
    folder = cut()
    found = pictures(folder)
    assert found == pictures(cut(name='again'))
    for split, num_images in (('train', 10), ('val', 4)):
        assert {path.parts[1] for path in found if path.parts[0] == split} == {'left', 'right'}
        assert sum(path.parts[0] == split for path in found) == num_images * 2 * 2


def test_mmpretrain_reads_what_it_writes(cut, capsys):
    folder = cut()
    init_default_scope('mmpretrain')
    datasets = [DATASETS.build(dict(type='CustomDataset', data_root=str(folder / part))) for part in ('train', 'val')]
    assert [len(dataset) for dataset in datasets] == [40, 16]
    assert {dataset.metainfo['classes'] for dataset in datasets} == {('left', 'right')}
    printed = capsys.readouterr().out
    assert 'left out, with fewer than 20 training squares: ground' in printed
    assert "classes=['left', 'right']" in printed


def test_refuses_what_it_cannot_cut(cut, config_file, make_classification_config, run_tool, tmp_path):
    (tmp_path / 'there').mkdir()
    make_classification_config().dump(tmp_path / 'classifier.py')
    for words, message in (
        (['--out', tmp_path / 'there'], '/there exists: remove it, or choose another --out'),
        (['--middle', 17], '--middle must be a whole number, from 1 to 16'),
        (['--fewest', 1000], '0 classes have 1000 training squares: lower --fewest, --side or --middle'),
        (['--cfg-options', 'train_dataloader.dataset.data_root=nowhere'], 'no data at nowhere: '),
    ):
        with pytest.raises(SystemExit) as stopped:
            cut(*words, name='none')
        assert_one_line(stopped.value, message)
    with pytest.raises(SystemExit) as stopped:
        run_tool('cut_squares', tmp_path / 'classifier.py', '--out', tmp_path / 'none')
    assert_one_line(stopped.value, 'classifier.py has no train data with maps of classes: give a config of MMSeg')
    assert not (tmp_path / 'none').exists()
