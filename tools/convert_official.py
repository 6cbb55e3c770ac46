"""Convert a checkpoint of the paper's released code (ziplab/SN-Netv2) to this package's names.

$ python tools/convert_official.py IN.pth OUT.pth

Takes whole segmentors and bare backbones. Every key is reported: renamed, dropped and why, or unknown, an error.
Objects that MMEngine has pickled beside the weights, such as the loss history, are dropped and named. No code of the
file runs.
"""

import argparse
from pathlib import Path

import torch

from mmsnnet.cli import command
from mmsnnet.compat.untrusted import load_untrusted
from mmsnnet.convert import convert_checkpoint
from mmsnnet.files import write_file


@command
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('source', metavar='IN.pth', type=Path, help='released checkpoint')
    parser.add_argument('target', metavar='OUT.pth', type=Path, help='file to write')
    args = parser.parse_args()
    checkpoint, unread = load_untrusted(args.source)
    conversion = convert_checkpoint(checkpoint)
    for old, new in conversion.mapped.items():
        print(f'{old} -> {", ".join(new)}')
    dropped = conversion.dropped | {place: f'a pickled {origin}' for place, origin in unread.items()}
    for old, reason in dropped.items():
        print(f'{old} dropped: {reason}')
    content = {'meta': {}, 'state_dict': conversion.state_dict}
    write_file(args.target, lambda partial: torch.save(content, partial))
    print(f'{len(conversion.mapped)} keys mapped, {len(dropped)} dropped, none unknown: {args.target}')


if __name__ == '__main__':
    main()
