"""Checkpoints with pickled objects: weights are read, nothing else runs."""

import os
import pickle

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from torch import nn

from mmsnnet.compat.untrusted import load_untrusted
from mmsnnet.errors import UserError


class Attack:
    """Runs code when it is unpickled."""

    def __init__(self, path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_reads_weights_and_names_what_it_drops(tmp_path):
    model = nn.BatchNorm1d(2)
    content = {
        'state_dict': model.state_dict(),
        'parameter': model.weight,
        'meta': {'iter': 5, 'classes': ('a', 'b'), 'dtype': torch.float16, 'seed': np.int64(3)},
        'message_hub': {'log_scalars': {'loss': HistoryBuffer([1.0], [1])}},
        'attack': [Attack(tmp_path / 'attacked')],
    }
    torch.save(content, tmp_path / 'old.pth')
    read, dropped = load_untrusted(tmp_path / 'old.pth')
    assert not (tmp_path / 'attacked').exists()
    assert read['state_dict'].keys() == model.state_dict().keys()
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in read['state_dict'].items())
    assert torch.equal(read['parameter'], model.weight)
    assert read['meta'] == {'iter': 5, 'classes': ('a', 'b'), 'dtype': torch.float16}
    assert read['message_hub'] == {'log_scalars': {}}
    assert 'attack' not in read
    assert dropped['message_hub.log_scalars.loss'] == 'mmengine.logging.history_buffer.HistoryBuffer'
    assert dropped['attack.0'].endswith('.mkdir')
    assert 'meta.seed' in dropped


class Vandal:
    """Changes the defaults of a function that files may call."""

    def __reduce__(self):
        return torch._utils._rebuild_tensor_v2, (), (None, {'__defaults__': (5,)})


@pytest.mark.parametrize('content', [{'a': Vandal()}, {Attack('never'): 1}, [torch.ones(1)]])
def test_a_malicious_file_changes_nothing(tmp_path, content):
    defaults = torch._utils._rebuild_tensor_v2.__defaults__
    torch.save(content, tmp_path / 'file.pth')
    try:
        read, dropped = load_untrusted(tmp_path / 'file.pth')
    except UserError:
        read, dropped = {}, {'all': ''}
    assert read == {}
    assert dropped
    assert torch._utils._rebuild_tensor_v2.__defaults__ == defaults


def test_a_file_that_holds_itself_is_refused(tmp_path):
    content = {}
    content['self'] = content
    torch.save(content, tmp_path / 'file.pth')
    with pytest.raises(UserError, match='RecursionError'):
        load_untrusted(tmp_path / 'file.pth')


@pytest.mark.parametrize('content', [b'', b'no checkpoint', pickle.dumps({'state_dict': {}})])
def test_refuses_what_is_no_checkpoint(tmp_path, content):
    (tmp_path / 'file.pth').write_bytes(content)
    with pytest.raises(UserError, match=r'file\.pth is no checkpoint that torch\.save has written'):
        load_untrusted(tmp_path / 'file.pth')


def test_files_of_old_pytorch_are_read(tmp_path):
    torch.save({'weight': torch.ones(2)}, tmp_path / 'old.pth', _use_new_zipfile_serialization=False)
    assert load_untrusted(tmp_path / 'old.pth')[0]['weight'].tolist() == [1, 1]


def test_a_damaged_file_is_told(tmp_path):
    torch.save({'weight': torch.ones(1000)}, tmp_path / 'cut.pth')
    (tmp_path / 'cut.pth').write_bytes((tmp_path / 'cut.pth').read_bytes()[:2000])
    with pytest.raises(UserError, match='it is damaged'):
        load_untrusted(tmp_path / 'cut.pth')
