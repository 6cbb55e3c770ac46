import json
import math
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from mmsnnet.stitching import Cost, Record, StitchSpace, read_records, write_records

RECORDS = [
    Record(0, 's[0:12]', 'anchor', 33.5, 22.9, {'mIoU': 45.57, 'aAcc': 81.8}, latency_ms=3.25, memory_mb=700.0),
    Record(4, 's[0:3]-l[6:24]', 'SL', 280.57, 250.1),
]


def test_round_trip(tmp_path):
    path = write_records(RECORDS, tmp_path / 'new' / 'folder' / 'stitches.json')
    assert path == tmp_path / 'new' / 'folder' / 'stitches.json'
    assert read_records(path) == RECORDS


def test_unmeasured_fields_are_left_out(tmp_path):
    measured, unmeasured = json.loads(write_records(RECORDS, tmp_path / 'stitches.json').read_text())
    needed = {'id', 'name', 'kind', 'gflops', 'params_m', 'metrics'}
    assert set(measured) == needed | {'latency_ms', 'memory_mb'}
    assert set(unmeasured) == needed


@pytest.mark.parametrize('value', [math.nan, math.inf, -math.inf])
def test_a_metric_that_broke_is_null(tmp_path, value):
    broken = Record(0, 's[0:12]', 'anchor', 33.5, 22.9, {'mIoU': value, 'aAcc': 81.8})
    path = write_records([broken], tmp_path / 'stitches.json')
    assert json.loads(path.read_text())[0]['metrics'] == {'mIoU': None, 'aAcc': 81.8}
    assert math.isnan(read_records(path)[0].metrics['mIoU'])


def test_a_record_does_not_change():
    with pytest.raises(FrozenInstanceError):
        RECORDS[0].latency_ms = 1.0


def test_record_of_a_route():
    route = StitchSpace((12, 24))[4]
    metrics = {'mIoU': 1.0}
    record = Record.of(route, Cost(2_500_000_000, 3_000_000), metrics)
    assert record == Record(4, 's[0:3]-l[6:24]', 'SL', 2.5, 3.0, {'mIoU': 1.0})
    metrics['mIoU'] = 2.0
    assert record.metrics == {'mIoU': 1.0}


@pytest.mark.parametrize('failing', ['replace', 'write_text'])
def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch, failing):
    path = write_records(RECORDS, tmp_path / 'stitches.json')

    def fail(self, *args):
        with self.open('w') as file:
            file.write('[{"id"')
        raise OSError('disk full')

    monkeypatch.setattr(Path, failing, fail)
    with pytest.raises(OSError, match='disk full'):
        write_records(RECORDS[:1], path)
    assert read_records(path) == RECORDS


def test_nothing_but_the_file_is_left(tmp_path):
    write_records(RECORDS, tmp_path / 'stitches.json')
    assert [file.name for file in tmp_path.iterdir()] == ['stitches.json']


def test_refuses_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'none\.json: write them with'):
        read_records(tmp_path / 'none.json')


@pytest.mark.parametrize(
    'text',
    [
        *('', '[{', '{"id": 0}', '3', '[{"id": 0}]', '["s[0:12]"]'),
        json.dumps([{**vars(RECORDS[0]), 'fps': 3}]),
        json.dumps([{**vars(RECORDS[0]), 'metrics': 45.57}]),
    ],
    ids=['empty', 'cut', 'dict', 'number', 'field missing', 'names', 'field unknown', 'metrics unnamed'],
)
def test_refuses_what_is_no_list_of_records(tmp_path, text):
    (tmp_path / 'stitches.json').write_text(text)
    with pytest.raises(ValueError, match=r'stitches\.json is no list of records'):
        read_records(tmp_path / 'stitches.json')
