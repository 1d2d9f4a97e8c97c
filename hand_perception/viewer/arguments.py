"""Arguments of every command that can show a page; nothing heavy is imported for them."""

from __future__ import annotations

import argparse


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
