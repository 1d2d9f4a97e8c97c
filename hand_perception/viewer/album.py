"""Pictures one after the other on the page, with a slider to go back and forth."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hand_perception.hands import Camera, Hand
from hand_perception.imaging import read_image
from hand_perception.viewer.page import HandPage


@dataclass(frozen=True)
class _Entry:
    name: str
    path: Path
    camera: Camera
    hands: list[Hand]


@dataclass
class Album:
    """Keeps hands and paths; a picture is read again when it is turned to.

    faces: [F, 3] of the hands' topology.
    """

    page: HandPage
    faces: np.ndarray
    _entries: list[_Entry] = field(default_factory=list)

    def __post_init__(self) -> None:
        # A slider needs an end above its start: the second stop is one that shows the last picture.
        self._slider = self.page.server.gui.add_slider("picture", 0, 1, 1, 0, order=-1)
        self._slider.on_update(lambda event: self.turn_to(int(self._slider.value)))

    def add(
        self, name: str, path: Path, image: np.ndarray, camera: Camera, hands: list[Hand]
    ) -> None:
        """Show a picture. name: for the reader. path: where it can be read again."""
        self._entries.append(_Entry(name, path, camera, hands))
        last = len(self._entries) - 1
        self._slider.max = max(last, 1)
        # Whoever has turned back is left in peace.
        if last == 0 or self._slider.value == last - 1:
            self._slider.value = last
            self._show(self._entries[-1], image)

    def turn_to(self, number: int) -> None:
        """Show the picture of that number, counted from 0, or the last one."""
        if self._entries:
            entry = self._entries[min(number, len(self._entries) - 1)]
            self._show(entry, read_image(entry.path))

    def _show(self, entry: _Entry, image: np.ndarray) -> None:
        self.page.note(entry.name)
        # Pictures have no time: each stands for itself.
        self.page.show(image, entry.camera, entry.hands, self.faces, stamp_s=0.0)
