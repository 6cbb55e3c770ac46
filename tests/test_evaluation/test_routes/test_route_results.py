import json
import math
import zipfile

import pytest
import torch

from mmsnnet.evaluation import RouteResults
from mmsnnet.stitching import StitchSpace

ROUTES = list(StitchSpace((2, 4)))
# Tuples, and numbers that JSON does not have, are settings like any others.
RUN = {'checkpoint': 'a.pth', 'images': 3, 'config': {'mean': (1, 2), 'max_norm': math.inf, 'fill': math.nan}}


def collect(results: RouteResults, batches: int, fail_after: int | None = None) -> None:
    """Add results that tell their step and metric, from where ``results`` stands."""
    for step in range(results.steps_done, batches * len(ROUTES)):
        if step == fail_after:
            return
        route = ROUTES[step % len(ROUTES)]
        for metric, collected in enumerate(results.lists(route)):
            collected.append((step, metric, torch.tensor([step])))
        results.step_done()


def expected(route, batches: int) -> list[list]:
    steps = [batch * len(ROUTES) + route.id for batch in range(batches)]
    return [[(step, metric, torch.tensor([step])) for step in steps] for metric in range(2)]


@pytest.fixture(autouse=True)
def _flush_always(monkeypatch):
    monkeypatch.setattr(RouteResults, 'flush_seconds', 0)


@pytest.mark.parametrize('flush_seconds', [0, 1e9])
def test_gives_back_what_it_got(tmp_path, flush_seconds):
    results = RouteResults(ROUTES, 2, tmp_path / 'partial', RUN)
    results.flush_seconds = flush_seconds
    collect(results, 3)
    assert all(results.load(route) == expected(route, 3) for route in ROUTES)
    assert len(list((tmp_path / 'partial').glob('*.zip'))) == (12 if flush_seconds == 0 else 0)
    results.delete()
    assert not (tmp_path / 'partial').exists()


def test_without_a_folder_it_does_not_fill_the_memory():
    results = RouteResults(ROUTES, 2)
    collect(results, 3)
    assert not any(any(results.lists(route)) for route in ROUTES)
    assert all(results.load(route) == expected(route, 3) for route in ROUTES)
    folder = results.folder
    results.delete()
    assert not folder.exists()


@pytest.mark.parametrize('fail_after', range(0, 12, 2))
def test_resumes_at_the_step_that_was_not_written(tmp_path, fail_after):
    collect(RouteResults(ROUTES, 2, tmp_path, RUN), 3, fail_after)
    resumed = RouteResults(ROUTES, 2, tmp_path, RUN, resume=True)
    assert resumed.steps_done == fail_after
    collect(resumed, 3)
    assert all(resumed.load(route) == expected(route, 3) for route in ROUTES)


def test_what_was_in_memory_is_done_again(tmp_path):
    results = RouteResults(ROUTES, 2, tmp_path, RUN)
    results.flush_seconds = 1e9
    collect(results, 3, fail_after=3)
    results.flush()
    collect(results, 3, fail_after=7)
    assert RouteResults(ROUTES, 2, tmp_path, RUN, resume=True).steps_done == 3


def test_a_chunk_that_was_being_written_does_not_count(tmp_path, monkeypatch):
    results = RouteResults(ROUTES, 2, tmp_path, RUN)
    collect(results, 3, fail_after=2)

    def full(self, *args):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(zipfile.ZipFile, 'writestr', full)
    with pytest.raises(OSError, match=r'cannot write .*rank0_000000002-000000003.zip: No space left'):
        collect(results, 3, fail_after=3)
    assert RouteResults(ROUTES, 2, tmp_path, RUN, resume=True).steps_done == 2


def test_a_missing_chunk_ends_what_counts(tmp_path):
    collect(RouteResults(ROUTES, 2, tmp_path, RUN), 3, fail_after=6)
    (tmp_path / 'rank0_000000003-000000004.zip').unlink()
    resumed = RouteResults(ROUTES, 2, tmp_path, RUN, resume=True)
    assert resumed.steps_done == 3
    collect(resumed, 3, fail_after=8)
    resumed.flush()
    assert RouteResults(ROUTES, 2, tmp_path, RUN, resume=True).steps_done == 8


def test_without_resume_it_starts_over(tmp_path):
    collect(RouteResults(ROUTES, 2, tmp_path, RUN), 3, fail_after=6)
    assert RouteResults(ROUTES, 2, tmp_path, RUN).steps_done == 0
    assert not list(tmp_path.glob('*.zip'))


@pytest.mark.parametrize(
    ('routes', 'run', 'message'),
    [
        (ROUTES, {**RUN, 'checkpoint': 'b.pth'}, r'checkpoint was "a.pth", now it is "b.pth"'),
        (ROUTES[:2], RUN, 'routes was'),
        (ROUTES, {**RUN, 'ranks': 2}, 'ranks was null, now it is 2'),
        (
            ROUTES,
            {**RUN, 'config': {**RUN['config'], 'mean': [1, 3]}},
            r'config.mean.1 was 2, now it is 3\. Start over',
        ),
    ],
)
def test_refuses_to_resume_another_run(tmp_path, routes, run, message):
    RouteResults(ROUTES, 2, tmp_path, RUN)
    with pytest.raises(ValueError, match=message):
        RouteResults(routes, 2, tmp_path, run, resume=True)


@pytest.mark.parametrize('resume', [False, True])
def test_deletes_nothing_that_is_not_its_own(tmp_path, resume):
    (tmp_path / 'thesis.zip').write_text('years of work')
    (tmp_path / 'rank0_notes.txt').write_text('mine')
    results = RouteResults(ROUTES, 2, tmp_path, RUN, resume)
    collect(results, 1)
    results.delete()
    assert sorted(path.name for path in tmp_path.iterdir()) == ['rank0_notes.txt', 'thesis.zip']


def test_run_is_noted_as_json(tmp_path):
    RouteResults(ROUTES, 2, tmp_path, RUN)
    assert json.loads((tmp_path / 'run.json').read_text())['images'] == 3
