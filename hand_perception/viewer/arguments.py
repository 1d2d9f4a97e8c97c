"""Arguments of every command that can show a page, and the page they ask for.

Nothing heavy is imported until a page is wanted.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from hand_perception.errors import HandPerceptionError

if TYPE_CHECKING:
    from hand_perception.viewer.page import HandPage


def add_viewer_argument(parser: argparse.ArgumentParser) -> None:
    """``--viewer`` and where to serve it."""
    parser.add_argument("--viewer", action="store_true", help="also show it in a web browser")
    add_page_arguments(parser)


def add_page_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--viewer-host",
        default="127.0.0.1",
        help="address to serve on; 0.0.0.0 lets other machines look (%(default)s)",
    )
    parser.add_argument(
        "--viewer-port", type=int, default=8080, help="the next free one is taken (%(default)s)"
    )


def open_page(args: argparse.Namespace) -> HandPage:
    """Raises HandPerceptionError when viser is not installed or there is no free port."""
    try:
        from hand_perception.viewer.page import HandPage
    except ModuleNotFoundError as error:
        raise HandPerceptionError(
            f"the viewer needs {error.name}: pip install 'hand_perception[viewer]'"
        ) from error
    return HandPage(args.viewer_host, args.viewer_port)
