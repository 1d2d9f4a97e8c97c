"""An archive of recordings as a Ray Data job over ``process``; scheduling is Ray's."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import ray
from tqdm import tqdm

from hand_perception.bags.process import Load, Settings, process
from hand_perception.bags.video import SUFFIXES
from hand_perception.errors import DataError, HandPerceptionError
from hand_perception.node import ReconstructorWithTopology, load_reconstructor
from hand_perception.parameters import NodeParameters

REPORT = "report.jsonl"
log = logging.getLogger("hand_perception.bag")


def find_recordings(archive: Path) -> dict[str, Path]:
    """Recordings by the name of their output: bags and videos anywhere below a folder, or the
    paths in a text file, one a line.

    Raises DataError when there are none or when two would have one output.
    """
    if archive.is_dir():
        metadata = sorted(path.parent for path in archive.rglob("metadata.yaml"))
        inside = set(metadata)
        videos = sorted(p for p in archive.rglob("*") if p.suffix.lower() in SUFFIXES)
        storages = (p for p in archive.rglob("*") if p.suffix in (".mcap", ".db3"))
        loose = sorted(p for p in storages if p.parent not in inside)
        found = [*metadata, *videos, *loose]
        names = [path.relative_to(archive).with_suffix("").as_posix() for path in found]
    elif archive.is_file():
        found = [Path(line.strip()) for line in archive.read_text().splitlines() if line.strip()]
        names = [path.with_suffix("").name for path in found]
    else:
        raise DataError(f"{archive} does not exist: give a folder of recordings or a list of paths")
    if not found:
        raise DataError(f"{archive} has no recordings: rosbag2 folders, .mcap, .db3 or videos")
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise DataError(f"several recordings would be written to {sorted(twice)[0]}: rename one")
    return dict(zip(names, found, strict=True))


def process_all(
    archive: Path,
    output: Path,
    settings: Settings,
    *,
    cpus: int = 2,
    address: str | None = None,
    load: Load = load_reconstructor,
) -> int:
    """Process each recording into a folder below ``output``; returns how many failed.

    A line about each is appended to ``output``/report.jsonl. Recordings that have their output are
    passed over, so that the same command goes on with an archive that has grown or was interrupted.
    On a cluster (address) the paths must lie on storage that all machines share.
    """
    rows = [
        {"recording": str(path.absolute()), "output": str((output / name).absolute())}
        for name, path in find_recordings(archive).items()
        if not (output / name).exists()
    ]
    if not rows:
        log.info("all recordings of %s have their output", archive)
        return 0
    output.mkdir(parents=True, exist_ok=True)
    # A recording has its cores to itself: more threads would only get in each other's way.
    parameters = replace(settings.parameters, threads=settings.parameters.threads or cpus)
    ray.init(address=address, ignore_reinit_error=True, log_to_driver=False)
    workers = max(1, int(ray.cluster_resources().get("CPU", 1)) // cpus)
    results = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
        ProcessRecording,
        fn_constructor_args=(replace(settings, parameters=parameters), load),
        num_cpus=cpus,
        concurrency=(1, min(workers, len(rows))),
    )
    failed = 0
    with (output / REPORT).open("a", encoding="utf-8") as report:
        for row in tqdm(results.iter_rows(), "bags", len(rows), unit="recording", disable=None):
            failed += row["error"] != ""
            print(json.dumps(row), file=report, flush=True)
    return failed


class ProcessRecording:
    """Ray Data's worker: loads the network once, then takes recording after recording."""

    def __init__(self, settings: Settings, load: Load) -> None:
        self._settings = settings
        self._load = load
        self._reconstructor: ReconstructorWithTopology | None = None

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """The row with ``process``'s summary; a bad recording is an ``error`` and ends no job."""
        nothing = {"images": 0, "known": 0, "failed": 0, "hands": 0, "seconds": 0.0}
        try:
            output = Path(row["output"])
            output.parent.mkdir(parents=True, exist_ok=True)
            summary = process(Path(row["recording"]), output, self._settings, self._loaded)
        except HandPerceptionError as error:
            return {**row, **nothing, "error": str(error)}
        return {**row, **asdict(summary), "error": ""}

    def _loaded(self, parameters: NodeParameters) -> ReconstructorWithTopology:
        if self._reconstructor is None:
            self._reconstructor = self._load(parameters)
        return self._reconstructor
