"""Convert a checkpoint of the paper's released code (ziplab/SN-Netv2) to this package's names.

$ python tools/convert_official.py IN.pth OUT.pth

Takes whole segmentors and bare backbones. Every key is reported: renamed, dropped and why, or unknown, an error.
"""

import argparse

import torch
from mmengine.runner.checkpoint import CheckpointLoader

from mmsnnet.cli import check_file, command
from mmsnnet.convert import convert_checkpoint


@command
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('source', metavar='IN.pth', help='released checkpoint')
    parser.add_argument('target', metavar='OUT.pth', help='file to write')
    args = parser.parse_args()
    conversion = convert_checkpoint(
        CheckpointLoader.load_checkpoint(check_file(args.source, 'checkpoint'), map_location='cpu')
    )
    for old, new in conversion.mapped.items():
        print(f'{old} -> {", ".join(new)}')
    for old, reason in conversion.dropped.items():
        print(f'{old} dropped: {reason}')
    torch.save({'meta': {}, 'state_dict': conversion.state_dict}, args.target)
    print(f'{len(conversion.mapped)} keys mapped, {len(conversion.dropped)} dropped, none unknown: {args.target}')


if __name__ == '__main__':
    main()
