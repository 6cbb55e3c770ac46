"""Pages of results: what they were measured with, tables, files."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from tabulate import tabulate

from mmsnnet.evaluation.provenance import describe_device, versions
from mmsnnet.files import write_file, write_json


def environment(device: torch.device) -> dict[str, str | dict[str, str]]:
    """What measurements depend on besides the code; a GPU's times depend on the CPU too."""
    return {'device': describe_device(device), 'cpu': describe_device(torch.device('cpu')), 'versions': versions()}


def join_page(sections: Sequence[str], env: dict) -> str:
    """The sections, then a line on the ``environment``, or on a record's provenance, which has no ``cpu``."""
    machines = dict.fromkeys([env['device'], env.get('cpu', env['device'])])
    line = ', '.join([*machines, *(f'{name} {version}' for name, version in env['versions'].items())])
    return '\n'.join([*sections, f'{line}.\n'])


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, its first column to the left and the others to the right, with a blank line after it."""
    table = tabulate(rows, headers=columns, tablefmt='pipe', disable_numparse=True, stralign='right', colalign=['left'])
    return f'{table}\n'


def write_results(out: Path, results: dict, page: str) -> None:
    """Write the numbers to ``out``, a .json file, and the page to the .md file beside it."""
    write_json(out, results)
    write_file(out.with_suffix('.md'), lambda partial: partial.write_text(page))
