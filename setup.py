"""How mmsnnet is built. pip runs this file before torch is installed: it imports setuptools and nothing heavier."""

import os
import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
# What mim looks for in `mmsnnet/.mim`: `mim train mmsnnet CONFIG`, `mim run mmsnnet flops`, `mim search mmsnnet`.
MIM_PARTS = ('configs', 'tools', 'model-index.yml')
# What is of use in a clone alone: shell scripts that set it up, and research code.
CLONE_ONLY = ('*.sh', 'benchmarks', 'experiments')

# No OpenMMLab package stands here. The forks that live on (onedl-*) are imported under the same names, and so is
# compiled mmcv: a hard requirement would overwrite what a user has. Those who have none take an extra. The lower bounds
# are versions that the tests ran with: docs/versions.md.
INSTALL_REQUIRES = [
    'fvcore>=0.1.5.post20221221',
    'jinja2>=3',
    'matplotlib>=3.7',
    'numpy>=1.24',
    'plotly>=5.20',
    'tabulate>=0.9',
    'timm>=1.0.31',
    'torch>=2.6',
    'torchvision>=0.21',
    'tqdm>=4.60',
]

# mmengine imports pkg_resources, which setuptools 82 removed.
MMENGINE = ['mmcv-lite>=2.1,<2.2', 'mmengine>=0.10.4,<1', 'setuptools<82']

EXTRAS = {
    'seg': [*MMENGINE, 'mmsegmentation>=1.2.2,<2', 'ftfy', 'regex'],  # mmsegmentation imports the last two undeclared
    'det': [*MMENGINE, 'mmdet>=3.3,<4', 'faster-coco-eval>=1.6'],
    'cls': [*MMENGINE, 'mmpretrain>=1.2,<2'],
    # From opendatalab 0.0.10 on, openxlab comes along and pins setuptools, rich, requests and tqdm to versions of 2023.
    'mim': ['openmim>=0.3.9', 'opendatalab<0.0.10', 'setuptools<82'],
    'export': ['onnx>=1.23', 'onnxruntime>=1.23', 'onnxscript>=0.7'],
    # PyAV brings an encoder of H.264.
    'demo': ['av>=14', 'gradio>=6.31,<7'],
    # The tests build wheels offline: setuptools can by itself from 70.1 on.
    'tests': ['packaging', 'pytest>=8', 'pytest-xdist>=3', 'pyyaml', 'selenium>=4.20', 'setuptools>=70.1'],
    'dev': ['ruff'],
    # mkdocstrings needs Python 3.11.
    'docs': [
        "mkdocs>=1.6,<2; python_version >= '3.11'",
        "mkdocs-material>=9.5; python_version >= '3.11'",
        "mkdocstrings[python]>=1; python_version >= '3.11'",
    ],
}
EXTRAS['all'] = [*EXTRAS['seg'], *EXTRAS['det'], *EXTRAS['cls'], *EXTRAS['mim'], *EXTRAS['export']]


class BuildPy(build_py):
    """Gives the package its `.mim` folder: copies in a wheel, links to the repository in an editable install."""

    def run(self):
        super().run()
        if self.editable_mode:
            fill(ROOT / 'mmsnnet' / '.mim', link)
            self.tell_mim_where_the_sources_are()
        else:
            fill(Path(self.build_lib) / 'mmsnnet' / '.mim', copy)

    def tell_mim_where_the_sources_are(self):
        """Put the package's absolute path into `top_level.txt` of the editable install.

        mim and mmengine look for an installed package at `site-packages/NAME`, and if that does not exist, at
        `site-packages/` joined with the first line of `top_level.txt`. An absolute path survives being joined.
        """
        wheel = Path(self.get_finalized_command('install').install_lib)
        for top_level in wheel.glob('*.dist-info/top_level.txt'):
            top_level.write_text(f'{ROOT / "mmsnnet"}\nmmsnnet\n', encoding='utf-8')


def fill(folder: Path, put):
    shutil.rmtree(folder, ignore_errors=True)  # may hold what an earlier build left
    folder.mkdir(parents=True)
    for part in MIM_PARTS:
        put(ROOT / part, folder / part)


def link(source: Path, target: Path):
    try:
        target.symlink_to(os.path.relpath(source, target.parent), target_is_directory=source.is_dir())
    except OSError:  # Windows lets only some users make links
        copy(source, target)


def copy(source: Path, target: Path):
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns('__pycache__', '*.pyc', *CLONE_ONLY))
    else:
        shutil.copyfile(source, target)


def version() -> str:
    text = (ROOT / 'mmsnnet' / '__init__.py').read_text(encoding='utf-8')
    return re.search(r"^__version__ = '(.+)'$", text, re.MULTILINE).group(1)


if __name__ == '__main__':
    setup(
        name='mmsnnet',
        version=version(),
        description='Stitchable vision backbones for MMSegmentation, MMDetection and MMPretrain',
        long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
        long_description_content_type='text/markdown',
        license='Apache-2.0',
        keywords='stitchable networks, vision transformer, semantic segmentation, object detection',
        packages=find_packages(include=['mmsnnet', 'mmsnnet.*']),
        package_data={'mmsnnet.evaluation.reports': ['templates/*.html']},
        python_requires='>=3.10,<3.13',
        install_requires=INSTALL_REQUIRES,
        extras_require=EXTRAS,
        cmdclass={'build_py': BuildPy},
        zip_safe=False,
        classifiers=[
            'Intended Audience :: Science/Research',
            'Programming Language :: Python :: 3',
            'Programming Language :: Python :: 3.10',
            'Programming Language :: Python :: 3.11',
            'Programming Language :: Python :: 3.12',
            'Topic :: Scientific/Engineering :: Artificial Intelligence',
        ],
    )
