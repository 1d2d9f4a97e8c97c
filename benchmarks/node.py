"""What the node costs outside of its network, over a real DDS connection on this machine.

    python benchmarks/node.py [--seconds 10] [--engine-ms 15] [--memory-minutes 0] [--output FILE]

The node runs with a network of known answer that sleeps for --engine-ms and then gives 1, 2 or 4
hands. A camera and a listener in a second process send 640x480 images and subscribe, with and
without markers. Overhead is the time from an image's arrival to the last of its messages, less the
network's; "cpu" is the inference thread's own, which other work on the machine hardly lengthens.
Prints the median and the 95th percentile, the images that did not get through at 10, 30 and 60 Hz,
the age of an image when its last message leaves, and the process's memory over time.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hand_perception import messages
from hand_perception.dds.node import DdsTransport
from hand_perception.dds.participant import BEST_EFFORT, RELIABLE, Participant
from hand_perception.frames import camera_info_message, image_message
from hand_perception.geometry import project, wrist_frame
from hand_perception.hands import Camera, Hand, Reconstruction, Side
from hand_perception.node import TICK_PERIOD, HandNode
from hand_perception.parameters import NodeParameters
from hand_perception.template import load_template
from hand_perception.topics import (
    JOINT_STATES,
    KEYPOINTS,
    MARKERS,
    MESH,
    RESULTS,
    TF,
    Input,
    Output,
)

HANDS = (1, 2, 4)
RATES = (10, 30, 60)
CAMERA = Camera(500.0, 500.0, 319.5, 239.5, 640, 480)
LISTENED = (MESH, KEYPOINTS, TF, JOINT_STATES)
# Images at the start: caches, page faults and discovery.
_WARM_UP = 10
# At least so many frames make a 95th percentile.
_LEAST_FRAMES = 40
_PATIENCE = 60.0


class Hands:
    """A network that takes ``seconds`` and sees ``count`` hands in every image, a little moved."""

    identity = "benchmark"
    topology = load_template("open778")

    def __init__(self, count: int, seconds: float) -> None:
        self._hands = [_hand(index) for index in range(count)]
        self._seconds = seconds
        self._random = np.random.default_rng(0)
        self.spans: list[tuple[float, float]] = []
        # Of the inference thread, at the start and the end of each call.
        self.cpu: list[tuple[float, float]] = []

    def __call__(
        self, image_rgb: np.ndarray, camera: Camera, *, score_threshold: float
    ) -> Reconstruction:
        start, cpu = time.perf_counter(), time.thread_time()
        time.sleep(self._seconds)
        step = self._random.normal(0, 1e-3, 3).astype(np.float32)
        hands = [
            replace(hand, keypoints3d=hand.keypoints3d + step, vertices=hand.vertices + step)
            for hand in self._hands
        ]
        self.spans.append((start, time.perf_counter()))
        self.cpu.append((cpu, time.thread_time()))
        return Reconstruction(hands)


def _hand(index: int) -> Hand:
    template = Hands.topology
    side = (Side.RIGHT, Side.LEFT)[index % 2]
    mirror = np.array((1.0 if side is Side.RIGHT else -1.0, 1.0, 1.0))
    place = np.array((-0.15 + 0.1 * index, 0.0, 0.6))
    keypoints = (template.keypoints * mirror + place).astype(np.float32)
    pixels = project(keypoints, CAMERA).astype(np.float32)
    return Hand(
        side=side,
        score=0.9,
        box=np.concatenate([pixels.min(0) - 15, pixels.max(0) + 15]),
        keypoints2d=pixels,
        confidences=np.ones(21, np.float32),
        keypoints3d=keypoints,
        vertices=(template.vertices * mirror + place).astype(np.float32),
        wrist=wrist_frame(keypoints, side),
    )


class Stopwatch(DdsTransport):
    """When each image arrives and when the last message about it has left."""

    def __init__(self, participant: Participant, parameters: NodeParameters) -> None:
        super().__init__(participant, parameters, lambda values: None)
        self.arrivals: dict[int, float] = {}
        self.departures: dict[int, float] = {}
        self._stamp = 0

    def subscribe(self, source: Input, callback: Callable[[Any], None]) -> None:
        def arrive(message: Any) -> None:
            if source.type_name.endswith("/Image"):
                stamp = messages.nanoseconds_of(message.header.stamp)
                self.arrivals[stamp] = time.perf_counter()
            callback(message)

        super().subscribe(source, arrive)

    def publish(self, output: Output, message: Any) -> None:
        super().publish(output, message)
        if output == MESH:  # the first of an image's messages; all leave from one thread
            self._stamp = messages.nanoseconds_of(message.header.stamp)
        if output in RESULTS:
            self.departures[self._stamp] = time.perf_counter()


def measure(
    domain: int, hands: int, markers: bool, rate: float, seconds: float, engine_s: float
) -> dict[str, Any]:
    network = Hands(hands, engine_s)
    with Participant("hand_perception", domain_id=domain, localhost=True) as participant:
        parameters = NodeParameters()
        watch = Stopwatch(participant, parameters)
        log = logging.getLogger(__name__)
        node = HandNode(parameters, network, participant.types, watch, log)
        participant.every(TICK_PERIOD, node.tick)
        peer = subprocess.Popen(
            [sys.executable, __file__, "--peer", str(domain), str(int(markers)), str(rate)]
            + [str(seconds)],
            stdout=subprocess.PIPE,
            text=True,
        )
        said, _ = peer.communicate(timeout=seconds + _PATIENCE)
        time.sleep(engine_s + 0.2)
        node.stop()
    sent = json.loads(said)
    done = sorted(watch.departures)[_WARM_UP:]
    spans = network.spans[_WARM_UP:]
    whole = np.array([watch.departures[stamp] - watch.arrivals[stamp] for stamp in done])
    # An image may wait for the one before it: that is the network's time as well.
    starts = np.array([start for start, _ in spans])
    ends = np.array([end for _, end in spans])
    arrivals = np.array([watch.arrivals[stamp] for stamp in done])
    free = np.concatenate([[-np.inf], [watch.departures[stamp] for stamp in done[:-1]]])
    overhead = 1e3 * (whole - (ends - starts) - np.clip(free - arrivals, 0, None))
    age = 1e3 * whole
    # From the end of one call to the start of the next: what follows one and precedes the other.
    cpu = np.array(network.cpu[_WARM_UP:])
    busy = 1e3 * (cpu[1:, 0] - cpu[:-1, 1])
    return {
        "hands": hands,
        "markers": markers,
        "rate_hz": rate,
        "frames": len(done),
        "sent": sent["images"],
        "arrived": len(watch.arrivals),
        "worked_on": len(watch.departures),
        "meshes_heard": sent["meshes"],
        "overhead_ms": _percentiles(overhead),
        "overhead_cpu_ms": _percentiles(busy),
        "age_at_departure_ms": _percentiles(age),
    }


def _percentiles(values: np.ndarray) -> dict[str, float]:
    return {f"p{p}": round(float(np.percentile(values, p)), 2) for p in (50, 95)}


def peer(domain: int, markers: bool, rate: float, seconds: float) -> None:
    """The second process: a camera and a listener."""
    heard = {output: 0 for output in (*LISTENED, *([MARKERS] if markers else []))}
    with Participant("benchmark", domain_id=domain, localhost=True) as participant:
        for output in heard:

            def count(*_: Any, output: Any = output) -> None:
                heard[output] += 1

            participant.subscribe(output.topic, output.type_name, count, RELIABLE, depth=8)
        images = participant.publisher("image", "sensor_msgs/msg/Image", BEST_EFFORT)
        infos = participant.publisher("camera_info", "sensor_msgs/msg/CameraInfo", BEST_EFFORT)
        deadline = time.monotonic() + _PATIENCE
        while not (images.num_listeners and infos.num_listeners):
            if time.monotonic() > deadline:
                raise SystemExit("the node was not found")
            time.sleep(0.02)
        time.sleep(1.0)  # the node finds the listener, too
        types = participant.types
        pixels = np.full((CAMERA.height, CAMERA.width, 3), 60, np.uint8)
        sent = 0
        start = time.monotonic()
        while time.monotonic() - start < seconds:
            header = messages.header(types, time.time_ns(), "optical")
            if sent == 0:
                infos.publish(camera_info_message(types, header, CAMERA))
                time.sleep(0.2)
                start = time.monotonic()
            images.publish(image_message(types, header, pixels))
            sent += 1
            time.sleep(max(0.0, start + sent / rate - time.monotonic()))
        time.sleep(0.5)
    print(json.dumps({"images": sent, "meshes": heard[MESH]}))


def memory(domain: int, minutes: float, engine_s: float) -> dict[str, Any]:
    """Resident memory in MiB while two hands are published at 30 Hz with all listeners."""
    samples: list[tuple[float, float]] = []
    ended = threading.Event()

    def watch() -> None:
        start = time.monotonic()
        while not ended.wait(max(1.0, 0.6 * minutes)):
            samples.append((time.monotonic() - start, resident_mib()))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    row = measure(domain, 2, True, 30, 60 * minutes, engine_s)
    ended.set()
    thread.join()
    settled = [mib for second, mib in samples if second > 0.2 * 60 * minutes]
    return {
        "minutes": minutes,
        "frames": row["frames"],
        "resident_mib": [[round(second), round(mib, 1)] for second, mib in samples],
        "growth_mib": round(settled[-1] - settled[0], 1) if settled else None,
    }


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    if sys.argv[1:2] == ["--peer"]:
        domain, markers, rate, seconds = map(float, sys.argv[2:])
        peer(int(domain), bool(markers), rate, seconds)
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    parser.add_argument("--engine-ms", type=float, default=15.0, help="what the network takes")
    parser.add_argument("--memory-minutes", type=float, default=0.0, help="0: not measured")
    parser.add_argument("--domain-id", type=int, default=30 + os.getpid() % 70)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    logging.disable(logging.WARNING)  # between the measurements the camera is silent
    engine_s = args.engine_ms / 1e3
    report: dict[str, Any] = {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "load_average": [round(value, 2) for value in os.getloadavg()],
        "engine_ms": args.engine_ms,
        "rows": [],
    }
    print(f"{report['machine']}, load {report['load_average'][0]}, engine {args.engine_ms:g} ms")
    cases = [(hands, markers, 30) for hands in HANDS for markers in (False, True)]
    cases += [(2, False, rate) for rate in RATES if rate != 30]
    for hands, markers, rate in cases:
        seconds = max(args.seconds, (_LEAST_FRAMES + _WARM_UP) / rate)
        row = measure(args.domain_id, hands, markers, rate, seconds, engine_s)
        report["rows"].append(row)
        overhead, cpu = row["overhead_ms"], row["overhead_cpu_ms"]
        age = row["age_at_departure_ms"]
        print(
            f"{hands} hands, {'markers' if markers else 'no markers':10} {rate:2d} Hz: "
            f"overhead {overhead['p50']:5.1f} ms (p95 {overhead['p95']:5.1f}), "
            f"cpu {cpu['p50']:4.1f} ms (p95 {cpu['p95']:4.1f}), "
            f"age {age['p50']:5.1f} ms (p95 {age['p95']:5.1f}), "
            f"{row['worked_on']} of {row['sent']} images"
        )
    if args.memory_minutes:
        report["memory"] = memory(args.domain_id, args.memory_minutes, engine_s)
        print(f"memory: {report['memory']['growth_mib']} MiB over {args.memory_minutes:g} minutes")
    if args.output:
        args.output.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
