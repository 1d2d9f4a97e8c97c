"""``hand-perception demo``: camera, node and listener as three processes on loopback.

A clip (ours, a video, pictures or a webcam) is played as a ROS 2 camera; the node reconstructs;
this process listens, draws what it hears over the images and records a bag.
"""

from __future__ import annotations

import argparse
import os
import queue
import signal
import subprocess
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from hand_perception.bags.writer import BagWriter
from hand_perception.cdr import type_store
from hand_perception.dds.camera import clip_truth
from hand_perception.dds.command import positive, start_logging
from hand_perception.dds.participant import Participant
from hand_perception.dds.stop import Stop, stop_on_signals
from hand_perception.demo.listener import Listener, Result
from hand_perception.demo.report import Report
from hand_perception.demo.video import OverlayVideo
from hand_perception.errors import HandPerceptionError
from hand_perception.sources import Source
from hand_perception.viewer.arguments import add_viewer_argument, open_page

if TYPE_CHECKING:
    from hand_perception.viewer.page import HandPage

CLIP = Path(__file__).parent.parent / "assets" / "demo" / "clip.mp4"
_COMMAND = [sys.executable, "-m", "hand_perception.cli"]
_LAST_WORD = 2.0  # seconds without a result after the last picture until the node is stopped


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--input",
        default=str(CLIP),
        help="video, picture, folder of pictures or webcam index (a rendered clip)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("out/demo"),
        help="folder for the overlay video and the bag (%(default)s)",
    )
    parser.add_argument("--model", default="auto", help="name or path (%(default)s)")
    parser.add_argument("--rate", type=positive, help="pictures per second (the video's own)")
    parser.add_argument("--intrinsics", type=Path, help=".npz with the 3x3 matrix K")
    parser.add_argument("--fov", type=positive, help="degrees across the longer side, without K")
    add_viewer_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Returns 0 when at least one hand was received. Raises HandPerceptionError."""
    return play(args, [*_COMMAND, "node"])


def play(args: argparse.Namespace, node_command: list[str]) -> int:
    """``run`` with another command for the node; it takes the arguments of ``node``."""
    start_logging()
    stop = stop_on_signals()
    if not args.viewer:
        return _play(args, node_command, stop, None)
    with open_page(args) as page:
        print(f"look at {page.url}", flush=True)
        status = _play(args, node_command, stop, page)
        print("the page stays until Ctrl-C", flush=True)
        stop.wait()
    return status


def _play(
    args: argparse.Namespace, node_command: list[str], stop: Stop, page: HandPage | None
) -> int:
    source = Source(args.input)
    if not source.is_webcam:
        next(source.pictures())  # a source that cannot be read is said now
    rate = args.rate or source.rate or 30.0
    truth = clip_truth(Path(args.input))
    bag_folder = _free_folder(args.output, "bag")
    domain = 20 + os.getpid() % 80  # nobody else's, most likely
    with (
        BagWriter(bag_folder, type_store()) as bag,
        Participant("demo", domain_id=domain, localhost=True) as participant,
        _fed(page, participant),
        _Processes(domain) as processes,
    ):
        listener = Listener(participant, bag)
        parameters = ["-p", f"model:={args.model}", "-p", "compressed:=true"]
        node = processes.start([*node_command, *parameters])
        _wait_for_node(listener, node, stop)
        # For the first picture listener, node and page must all be there.
        options = _camera_options(args, rate, truth, listeners=2 if page is None else 3)
        camera = processes.start([*_COMMAND, "camera", args.input, *options])
        with OverlayVideo(args.output / "overlay.mp4", rate) as video:
            _watch(listener, video, camera, source.length, stop)
    report = Report(listener.results, listener.pictures, listener.diagnostics, truth)
    print(report.text())
    print(f"wrote {args.output / 'overlay.mp4'} and {bag_folder} (ros2 bag play)")
    if camera.returncode:
        return camera.returncode
    return 0 if report.num_hands else 1


def _free_folder(parent: Path, name: str) -> Path:
    """A sub-folder that does not exist: name, name_2, ..."""
    try:
        parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HandPerceptionError(f"cannot write to {parent} ({error.strerror})") from error
    folder, number = parent / name, 2
    while folder.exists():
        folder, number = parent / f"{name}_{number}", number + 1
    return folder


def _fed(page: HandPage | None, participant: Participant) -> AbstractContextManager:
    if page is None:
        return nullcontext()
    from hand_perception.viewer.feed import Feed

    return Feed(participant, page, compressed=True)


def _camera_options(
    args: argparse.Namespace, rate: float, truth: Path | None, listeners: int
) -> list[str]:
    options = ["--rate", str(rate), "--compressed", "--listeners", str(listeners)]  # JPEG: small
    intrinsics = args.intrinsics or (None if args.fov else truth)
    if intrinsics:
        options += ["--intrinsics", str(intrinsics)]
    if args.fov:
        options += ["--fov", str(args.fov)]
    return options


class _Processes:
    """The command's other processes, all ended with it."""

    def __init__(self, domain: int) -> None:
        self._domain = domain
        self._started: list[subprocess.Popen] = []

    def start(self, words: list[str]) -> subprocess.Popen:
        network = ["--localhost", "--domain-id", str(self._domain)]
        self._started.append(subprocess.Popen([*words, *network]))
        return self._started[-1]

    def __enter__(self) -> _Processes:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._started:
            process.send_signal(signal.SIGTERM)
        for process in self._started:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_for_node(listener: Listener, node: subprocess.Popen, stop: Stop) -> None:
    while not listener.node_ready.wait(0.1):
        if node.poll() is not None or stop.is_set():
            raise HandPerceptionError("the node did not start: see its message above")


def _watch(
    listener: Listener,
    video: OverlayVideo,
    camera: subprocess.Popen,
    length: int | None,
    stop: Stop,
) -> None:
    """Draw what comes in until the camera has ended and the node has nothing more to say."""
    video.faces = np.reshape(listener.topology.triangles, (-1, 3)).astype(np.int32)
    last_event = time.monotonic()
    with tqdm(total=length, desc="demo", unit="image", disable=None) as progress:
        while not stop.is_set():
            try:
                event = listener.events.get(timeout=0.1)
            except queue.Empty:
                if camera.poll() is not None and time.monotonic() - last_event > _LAST_WORD:
                    return
                continue
            last_event = time.monotonic()
            if isinstance(event, Result):
                video.draw(event)
            else:
                video.add(event)
                progress.update()
