"""The page: a camera, its picture and the hands in front of it in 3D, and how the node is doing."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout

import numpy as np
import viser

from hand_perception.errors import HandPerceptionError
from hand_perception.hands import Camera, Hand
from hand_perception.overlay import draw
from hand_perception.viewer.figures import HandFigure, frustum_scale, vertical_fov
from hand_perception.viewer.plots import RatePlots

# How far behind the lens the picture hangs, metres.
_PICTURE_DISTANCE = 0.25
# Seconds of its way that a hand's trace shows.
_TRACE = 3.0
_PANEL_PERIOD = 0.1  # of the overlay and the table, seconds
_JPEG_QUALITY = 80


class HandPage:
    """Serves a page until ``close``. ``show`` is called from one thread.

    The world is the camera's optical frame: x right, y down, z forward, metres. host: "0.0.0.0"
    lets other machines look. now: seconds of a steady clock. Raises HandPerceptionError when the
    port cannot be had.
    """

    def __init__(
        self, host: str = "127.0.0.1", port: int = 8080, now: Callable[[], float] = time.monotonic
    ) -> None:
        try:
            with redirect_stdout(sys.stderr):  # viser prints its address
                self.server = viser.ViserServer(host, port, label="hand_perception", verbose=False)
        except (OSError, RuntimeError) as error:
            raise HandPerceptionError(
                f"cannot serve a page on {host}:{port} ({error}): choose another --viewer-port"
            ) from error
        self._now = now
        self._figures: dict[str, HandFigure] = {}
        self._traces: dict[int, deque[tuple[float, np.ndarray]]] = {}
        self._frustum: viser.CameraFrustumHandle | None = None
        self._camera: Camera | None = None
        self._last_stamp = -np.inf
        self._panel_due = -np.inf
        self._drawable: tuple[np.ndarray, Sequence[Hand], Camera, np.ndarray] | None = None
        self._make_scene()
        self._make_panel()
        # A picture that was shown before anybody looked is drawn for the first who does.
        self.server.on_client_connect(lambda client: self._draw_overlay())

    @property
    def url(self) -> str:
        host = self.server.get_host()
        return f"http://{'localhost' if host == '0.0.0.0' else host}:{self.server.get_port()}"

    def close(self) -> None:
        with redirect_stdout(sys.stderr):
            self.server.stop()

    def __enter__(self) -> HandPage:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def show(
        self,
        image: np.ndarray | None,
        camera: Camera,
        hands: Sequence[Hand],
        faces: np.ndarray,
        stamp_s: float,
        latency_ms: float | None = None,
    ) -> None:
        """One image's hands take the place of the last one's.

        image: RGB uint8 [H, W, 3], None keeps the last one. faces: [F, 3], wound outwards for a
        right hand. stamp_s: when the image was taken; a jump back ends all traces. latency_ms: from
        the image's stamp until now.
        """
        if stamp_s < self._last_stamp:
            self._traces.clear()
        self._last_stamp = stamp_s
        with self.server.atomic():
            self._show_camera(camera, image)
            self._show_hands(hands, faces, stamp_s)
            self._plots.add(self._now(), latency_ms)
            if self._now() >= self._panel_due:
                self._panel_due = self._now() + _PANEL_PERIOD
                self._show_panel(image, camera, hands, faces)

    def note(self, text: str) -> None:
        """A line about the node, under the table of hands."""
        self._note.content = text

    # -- 3D ----------------------------------------------------------------------------------

    def _make_scene(self) -> None:
        scene = self.server.scene
        scene.set_up_direction("-y")
        scene.configure_default_lights(cast_shadow=False)  # half of the work without a GPU
        scene.world_axes.visible = True
        scene.world_axes.axes_length, scene.world_axes.axes_radius = 0.1, 0.0025
        scene.world_axes.origin_radius = 0.006
        # Over the camera's right shoulder, with hands at arm's length in the middle.
        self.server.initial_camera.position = (0.5, -0.3, -0.25)
        self.server.initial_camera.look_at = (0.05, 0.05, 0.5)

    def _show_camera(self, camera: Camera, image: np.ndarray | None) -> None:
        if self._frustum is None or camera != self._camera:
            self._camera = camera
            self._frustum = self.server.scene.add_camera_frustum(
                "/camera",
                fov=vertical_fov(camera),
                aspect=camera.width / camera.height,
                scale=frustum_scale(camera, _PICTURE_DISTANCE),
                thickness=0.002,
                color=(90, 90, 90),
                format="jpeg",
                jpeg_quality=_JPEG_QUALITY,
                cast_shadow=False,
                receive_shadow=False,
            )
        if image is not None and self._show_picture.value:
            self._frustum.image = image
        elif not self._show_picture.value:
            self._frustum.image = None

    def _show_hands(self, hands: Sequence[Hand], faces: np.ndarray, stamp_s: float) -> None:
        seen = {}
        for index, hand in enumerate(hands):
            # Untracked hands have no id: their place in the list names them.
            name = str(hand.track_id) if hand.track_id else f"untracked_{index}"
            figure = self._figures.pop(name, None)
            if figure is None:
                figure = HandFigure(self.server.scene, f"/hands/{name}", hand, faces)
            seen[name] = figure
            figure.update(
                hand,
                self._trace(hand, stamp_s),
                mesh=self._show_mesh.value,
                joints=self._show_joints.value,
                labelled=self._show_labels.value,
            )
        for gone in self._figures.values():
            gone.remove()
        self._figures = seen
        alive = {hand.track_id for hand in hands}
        for identity in list(self._traces):
            if identity not in alive and stamp_s - self._traces[identity][-1][0] > _TRACE:
                del self._traces[identity]

    def _trace(self, hand: Hand, stamp_s: float) -> np.ndarray:
        """Where a tracked hand's wrist was in the last seconds, [N, 3]."""
        if not (hand.track_id and self._show_traces.value):
            return np.zeros((0, 3))
        trace = self._traces.setdefault(hand.track_id, deque())
        trace.append((stamp_s, np.asarray(hand.wrist.translation, np.float32)))
        while trace[0][0] < stamp_s - _TRACE:
            trace.popleft()
        return np.array([place for _, place in trace])

    # -- panel -------------------------------------------------------------------------------

    def _make_panel(self) -> None:
        gui = self.server.gui
        # A tunnel through somebody else's machine is not for pictures of people.
        gui.configure_theme(show_share_button=False, control_width="large", dark_mode=True)
        self._overlay = gui.add_image(np.full((9, 16, 3), 40, np.uint8), format="jpeg")
        self._table = gui.add_markdown("Waiting for an image.")
        self._note = gui.add_markdown("")
        self._plots = RatePlots(gui)
        with gui.add_folder("Show"):
            self._show_picture = gui.add_checkbox("picture", True)
            self._show_mesh = gui.add_checkbox("meshes", True)
            self._show_joints = gui.add_checkbox("joints", True)
            self._show_labels = gui.add_checkbox("labels", True)
            self._show_traces = gui.add_checkbox("traces", True)

    def _show_panel(
        self, image: np.ndarray | None, camera: Camera, hands: Sequence[Hand], faces: np.ndarray
    ) -> None:
        if image is not None:
            self._drawable = (image, hands, camera, faces)
        # Drawing costs more than all the rest: only for somebody who looks.
        if self.server.get_clients():
            self._draw_overlay()
        self._table.content = hand_table(hands)
        self._plots.draw(self._now())

    def _draw_overlay(self) -> None:
        if self._drawable is not None:
            self._overlay.image = draw(*self._drawable)


def hand_table(hands: Sequence[Hand]) -> str:
    """Markdown: a line a hand."""
    if not hands:
        return "No hands."
    lines = ["| id | side | score | wrist x, y, z |", "|---|---|---|---|"]
    for hand in hands:
        place = ", ".join(f"{value:.2f}" for value in hand.wrist.translation)
        unit = "m" if hand.metric else "(no scale)"
        lines.append(f"| {hand.track_id} | {hand.side.value} | {hand.score:.2f} | {place} {unit} |")
    return "\n".join(lines)
