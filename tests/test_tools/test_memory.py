"""tools/memory.py on toy configs."""

import pytest


def lines_of(printed: str) -> dict[str, list[float]]:
    """Numbers of a table by the words before them."""
    table = printed.splitlines()[-3:]
    ends = [line.rindex(']') + 1 for line in table]
    return {line[:end]: [float(word) for word in line[end:].split()] for line, end in zip(table, ends, strict=True)}


def test_tells_cheapest_median_and_most_expensive(config_file, run_tool, capsys):
    config = config_file(**{'train_dataloader.batch_size': 64})
    run_tool('memory', config)
    printed = capsys.readouterr().out
    assert 'a step of 64 images of 32x48 in float32' in printed
    plain = lines_of(printed)
    assert [words.split()[-1] for words in plain] == ['s[0:2]', 'l[0:2]-s[1:2]', 'l[0:4]']
    assert [numbers[4] for numbers in plain.values()] == sorted(numbers[4] for numbers in plain.values())

    run_tool('memory', config, '--batch-size', 512, '--with-cp', '--dtype', 'bfloat16', '--shape', 16, 32)
    printed = capsys.readouterr().out
    assert 'a step of 512 images of 16x32 in mixed precision (bfloat16)' in printed
    assert list(lines_of(printed)) == list(plain)


def test_tells_of_a_single_anchor_and_refuses_no_images(make_config, run_tool, tmp_path, capsys):
    cfg = make_config()
    cfg.model.backbone = dict(type='AnchorViT', anchor=cfg.model.backbone.anchors[1], out_indices=(1, 3))
    cfg.dump(tmp_path / 'alone.py')
    run_tool('memory', tmp_path / 'alone.py')
    assert 'whole model' in capsys.readouterr().out
    with pytest.raises(SystemExit):
        run_tool('memory', tmp_path / 'alone.py', '--batch-size', 0)
    assert '--batch-size must be 1 or more' in capsys.readouterr().err
