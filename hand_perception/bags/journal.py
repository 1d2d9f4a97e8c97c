"""What an unfinished run has found so far, so that the next run need not look again."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import fields
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from hand_perception.errors import DataError
from hand_perception.hands import Camera, Hand, Pose, Reconstruction, Side
from hand_perception.worker import Reconstructor

_COMMIT_PERIOD = 2.0  # seconds of work that a crash may cost


class Journal:
    """The hands of each image, by its number, in an SQLite file that survives a crash.

    settings: what the hands depend on; a journal made with others is begun anew. Raises DataError
    when the file cannot be written or another run holds it. Use as a context manager.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        text = json.dumps(settings, sort_keys=True)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # The node works in a thread of its own; only one thread at a time is in here.
            self._database = sqlite3.connect(path, timeout=0, check_same_thread=False)
            # Held until closed: two runs must not write one recording.
            self._database.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._database.execute("CREATE TABLE IF NOT EXISTS settings (text TEXT)")
            self._database.execute(
                "CREATE TABLE IF NOT EXISTS images (number INTEGER PRIMARY KEY, hands BLOB)"
            )
            (before,) = self._database.execute("SELECT max(text) FROM settings").fetchone()
            if before != text:
                self._database.execute("DELETE FROM images")
                self._database.execute("DELETE FROM settings")
                self._database.execute("INSERT INTO settings VALUES (?)", (text,))
            self._database.commit()
        except (OSError, sqlite3.Error) as error:
            raise DataError(
                f"{path} cannot be used ({error}): is another run at work on this output? "
                "else delete its folder"
            ) from error
        self._committed = time.monotonic()
        (self.length,) = self._database.execute("SELECT count(*) FROM images").fetchone()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.commit()
        self._database.close()

    def get(self, number: int) -> list[Hand] | None:
        """The hands of an image, None where they are not known."""
        row = self._database.execute(
            "SELECT hands FROM images WHERE number = ?", (number,)
        ).fetchone()
        return None if row is None else unpack(row[0])

    def put(self, number: int, hands: list[Hand]) -> None:
        self._database.execute("INSERT INTO images VALUES (?, ?)", (number, pack(hands)))
        self.length += 1
        if time.monotonic() - self._committed > _COMMIT_PERIOD:
            self._database.commit()
            self._committed = time.monotonic()


class JournaledReconstructor:
    """A reconstructor that answers from the journal what it has answered before.

    Images are known by their order: a run must ask for the same ones in the same order as the run
    that began the journal.
    """

    def __init__(self, reconstructor: Reconstructor, journal: Journal) -> None:
        self._reconstructor = reconstructor
        self._journal = journal
        self._number = -1
        self.identity = reconstructor.identity
        self.topology = reconstructor.topology

    def __call__(
        self, image_rgb: np.ndarray, camera: Camera, *, score_threshold: float
    ) -> Reconstruction:
        self._number += 1
        known = self._journal.get(self._number)
        if known is not None:
            return Reconstruction(known)
        result = self._reconstructor(image_rgb, camera, score_threshold=score_threshold)
        self._journal.put(self._number, result.hands)
        return result


def pack(hands: list[Hand]) -> bytes:
    """Every field of every hand, exactly."""
    arrays = {}
    for index, hand in enumerate(hands):
        for field in fields(Hand):
            value, key = getattr(hand, field.name), f"{index}.{field.name}"
            if isinstance(value, Pose):
                arrays[f"{key}.rotation"] = value.rotation
                arrays[f"{key}.translation"] = value.translation
            elif value is not None:
                arrays[key] = value.value if isinstance(value, Side) else value
    buffer = BytesIO()
    np.savez(buffer, count=len(hands), **arrays)
    return buffer.getvalue()


def unpack(data: bytes) -> list[Hand]:
    """The hands that were packed."""
    with np.load(BytesIO(data), allow_pickle=False) as arrays:
        values: list[dict[str, Any]] = [{} for _ in range(int(arrays["count"]))]
        for key in arrays.files:
            index, _, name = key.partition(".")
            if name:
                array = arrays[key]
                values[int(index)][name] = array if array.ndim else array.item()
    return [_hand(fields_of_one) for fields_of_one in values]


def _hand(values: dict[str, Any]) -> Hand:
    wrist = Pose(values.pop("wrist.rotation"), values.pop("wrist.translation"))
    return Hand(**{**values, "side": Side(values["side"]), "wrist": wrist})
