"""What the demo has measured: counts, rates, times and, where the truth is known, errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hand_perception.demo.listener import Result
from hand_perception.errors import DataError
from hand_perception.hands import WRIST, Hand, Side


@dataclass(frozen=True)
class Truth:
    """A rendered clip's hands, frame by frame.

    keypoints3d: [T, N, 21, 3] metres in the camera frame, NaN where there is no hand.
    is_left: [T, N].
    """

    keypoints3d: np.ndarray
    is_left: np.ndarray

    @classmethod
    def load(cls, path: Path) -> Truth:
        """Raises DataError when the file lacks them."""
        try:
            with np.load(path) as data:
                return cls(data["keypoints3d"], data["is_left"])
        except (OSError, KeyError, ValueError) as error:
            raise DataError(f"{path} holds no truth of a clip: {error}") from error


class Report:
    """pictures: how many were played. diagnostics: the node's last values by name."""

    def __init__(
        self,
        results: Sequence[Result],
        pictures: int,
        diagnostics: Mapping[str, str],
        truth: Path | None,
    ) -> None:
        self._results = results
        self._pictures = pictures
        self._diagnostics = diagnostics
        self._truth = Truth.load(truth) if truth else None
        self.num_hands = sum(len(result.hands) for result in results)

    def text(self) -> str:
        values = self._diagnostics
        stages = [key for key in values if key.endswith("(ms)") and key[0].islower()]
        lines = [
            ("pictures played", str(self._pictures)),
            ("reconstructed", f"{len(self._results)} at {values.get('rate (Hz)', '?')} Hz"),
            ("dropped for newer", values.get("dropped (newer image came)", "?")),
            ("failed", values.get("failed", "?")),
            ("hands", str(self.num_hands)),
            *((key, values[key]) for key in stages),
        ]
        if self._truth is not None:
            lines += self._errors(self._truth)
        width = max(len(name) for name, _ in lines)
        return "\n".join(f"{name:{width}}  {value}" for name, value in lines)

    def _errors(self, truth: Truth) -> list[tuple[str, str]]:
        wrist, joints, sides, expected = [], [], [], 0
        for result in self._results:
            if result.index >= len(truth.keypoints3d):
                continue
            true_hands = [
                (points, left)
                for points, left in zip(
                    truth.keypoints3d[result.index], truth.is_left[result.index], strict=True
                )
                if np.isfinite(points).all()
            ]
            expected += len(true_hands)
            for hand, (points, left) in match(result.hands, true_hands):
                distances = np.linalg.norm(hand.keypoints3d - points, axis=1)
                wrist.append(distances[WRIST])
                joints.append(distances.mean())
                sides.append((hand.side is Side.LEFT) == bool(left))
        if not wrist:
            return [("found of the true hands", f"0 of {expected}")]
        return [
            ("found of the true hands", f"{len(wrist)} of {expected}"),
            ("wrist error, median", f"{1e3 * np.median(wrist):.1f} mm"),
            ("joint error, mean", f"{1e3 * np.mean(joints):.1f} mm"),
            ("side right", f"{100 * np.mean(sides):.1f} %"),
        ]


def match(
    hands: Sequence[Hand], true_hands: Sequence[tuple[np.ndarray, bool]]
) -> list[tuple[Hand, tuple[np.ndarray, bool]]]:
    """Pairs, each used once, closest first, by the angle between the rays to the wrists.

    By the ray and not by the distance, so that a wrong depth counts as an error of that hand. A
    pair more than 0.1 rad apart (0.1 m at 1 m) is no pair.
    """

    def ray(points: np.ndarray) -> np.ndarray:
        return points[WRIST] / np.linalg.norm(points[WRIST])

    candidates = sorted(
        (float(np.linalg.norm(ray(hand.keypoints3d) - ray(points))), i, j)
        for i, hand in enumerate(hands)
        for j, (points, _) in enumerate(true_hands)
    )
    pairs, used_hands, used_truths = [], set(), set()
    for distance, i, j in candidates:
        if distance < 0.1 and i not in used_hands and j not in used_truths:
            used_hands.add(i)
            used_truths.add(j)
            pairs.append((hands[i], true_hands[j]))
    return pairs
