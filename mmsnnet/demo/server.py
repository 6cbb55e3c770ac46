"""Serving a page to this machine or, if asked, to a network; without a call to anywhere else."""

import os

# Set before Gradio is imported, which reads some of them then. Its own check that the page is there must not go through
# a proxy.
os.environ['GRADIO_ANALYTICS_ENABLED'] = 'False'
os.environ['HF_HUB_DISABLE_TELEMETRY'] = '1'
for _name in ('NO_PROXY', 'no_proxy'):
    os.environ[_name] = ','.join(filter(None, [os.environ.get(_name), '127.0.0.1', 'localhost', '0.0.0.0']))

import gradio as gr  # noqa: E402

from mmsnnet.demo.image_tab import CSS  # noqa: E402
from mmsnnet.demo.page import build_page  # noqa: E402

__all__ = ['build_page', 'serve']

MAX_FILE_SIZE = '100mb'
# Visitors who wait; those after them are asked to come back.
MAX_WAITING = 64


def serve(page: gr.Blocks, host: str, port: int | None, is_shared: bool = False, *, blocks: bool = True) -> str:
    """Serve a page until the process ends, or, without ``blocks``, in a thread; returns its address."""
    _, local, public = page.queue(max_size=MAX_WAITING).launch(
        server_name=host,
        server_port=port,
        share=is_shared,
        max_file_size=MAX_FILE_SIZE,
        theme=gr.themes.Default(font=['system-ui', 'sans-serif'], font_mono=['monospace']),
        css=CSS,
        show_error=True,
        footer_links=[],
        ssr_mode=False,
        quiet=True,
        prevent_thread_lock=True,
    )
    address = public or local
    if blocks:
        print(f'the page is at {address} (stop with Ctrl+C)', flush=True)
        page.block_thread()
    return address
