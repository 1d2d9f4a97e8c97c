"""Suite "tracking": what the tracker makes of a network's errors, on hands whose truth is known.

Scenes are evaluation/sequences.py's, each played with several seeds: no network, no data. An output
hand belongs to the true hand whose 2D joints it is nearest to, within half a box (CLEAR MOT's
matching, Bernardin and Stiefelhagen 2008: an earlier pair that still fits stays).

- switches: how often a true hand's id is another one than it was last, over all seeds.
- IDF1: F-score of the share of hands with their one right id (Ristani et al. 2016).
- seen: share of the true hands that are shown. extra: outputs with no true hand of their own, per
  100 true ones.
- side: share of outputs on the right side; "in" columns are the network's own.
- jitter: mean length of second differences of the joints' errors against the truth, over the box's
  longer side for 2D and in millimetres for 3D about the wrist: what shakes that should not. Both
  also as they come in.
- error: mean distance of the 3D joints about the wrist, mm; lag shows here. place: of the wrist.
- ahead: distance of the wrist in the picture, over the box's longer side, from where it is 50 ms
  later; predicted: the same of HandTracker.predict.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from tqdm import tqdm

from hand_perception.evaluation.metrics import mean
from hand_perception.evaluation.sequences import SCENES, Frame, Scene, play
from hand_perception.hands import WRIST, Hand
from hand_perception.template import load_template
from hand_perception.tracking import HandTracker

SEEDS = 5
AHEAD_S = 0.05
# Farthest an output may be from its true hand, mean over the joints, in box sizes.
_GATE = 0.5

MakeTracker = Callable[[], HandTracker]


def evaluate(
    make_tracker: MakeTracker = HandTracker, seeds: int = SEEDS, scenes: dict[str, Scene] = SCENES
) -> dict[str, dict[str, float]]:
    """A row of numbers for each scene, and one of all."""
    template = load_template()
    rows, all_runs = {}, []
    for name, scene in tqdm(scenes.items(), "play", unit="scene", disable=None):
        runs = [run(play(scene, template, seed), make_tracker()) for seed in range(seeds)]
        rows[name] = summary(runs)
        all_runs += runs
    rows["all"] = summary(all_runs)
    return rows


@dataclass
class Run:
    """What one sequence gave. ids: of each true hand, frame by frame. Lists hold one number per
    shown hand or, for jitter, per joint and three frames in a row."""

    hands: int = 0
    shown: int = 0
    extra: int = 0
    switches: int = 0
    pairs: Counter = field(default_factory=Counter)
    numbers: dict[str, list[float]] = field(default_factory=dict)

    def note(self, name: str, *values: float) -> None:
        self.numbers.setdefault(name, []).extend(values)


def run(frames: list[Frame], tracker: HandTracker) -> Run:
    """Plays the frames through the tracker."""
    result = Run()
    last_id: dict[int, int] = {}
    before: dict[int, int] = {}
    errors_out: list[dict[int, np.ndarray]] = []
    errors_in: list[dict[int, np.ndarray]] = []
    for k, frame in enumerate(frames):
        out = tracker(frame.seen, frame.stamp_s)
        matches = match(out, frame.truth, before)
        result.hands += len(frame.truth)
        result.shown += len(matches)
        result.extra += len(out) - len(matches)
        before = {t: out[p].track_id for t, p in matches.items()}
        for t, identity in before.items():
            result.pairs[t, identity] += 1
            result.switches += last_id.get(t, identity) != identity
            last_id[t] = identity
        for t, p in matches.items():
            _judge(result, out[p], frame.truth[t])
        raw = match(frame.seen, frame.truth, {})
        result.note("side in", *(frame.seen[p].side is frame.truth[t].side for t, p in raw.items()))
        errors_out.append({t: _error(out[p], frame.truth[t]) for t, p in matches.items()})
        errors_in.append({t: _error(frame.seen[p], frame.truth[t]) for t, p in raw.items()})
        _look_ahead(result, tracker, out, matches, frames, k)
    for name, errors in (("", errors_out), (" in", errors_in)):
        pixels, metres = _second_differences(errors)
        result.note("jitter 2D" + name, *pixels)
        result.note("jitter 3D" + name, *metres)
    return result


def match(hands: list[Hand], truth: dict[int, Hand], before: dict[int, int]) -> dict[int, int]:
    """True hand to index of its output. before: each true hand's id in the last frame."""
    distances = {}
    for t, true in truth.items():
        size = float((true.box[2:] - true.box[:2]).max())
        for p, hand in enumerate(hands):
            error = np.linalg.norm(hand.keypoints2d - true.keypoints2d, axis=1).mean() / size
            if error < _GATE:
                # CLEAR MOT's rule: who was matched before and still fits comes first.
                stays = bool(hand.track_id) and before.get(t) == hand.track_id
                distances[t, p] = (not stays, error)
    matches: dict[int, int] = {}
    for t, p in sorted(distances, key=distances.__getitem__):
        if t not in matches and p not in matches.values():
            matches[t] = p
    return matches


def _judge(result: Run, hand: Hand, true: Hand) -> None:
    result.note("side", hand.side is true.side)
    wrist = hand.keypoints3d[WRIST] - true.keypoints3d[WRIST]
    relative = hand.keypoints3d - true.keypoints3d - wrist
    result.note("error", 1e3 * mean(np.linalg.norm(relative, axis=1)))
    result.note("place", 1e3 * float(np.linalg.norm(wrist)))


def _error(hand: Hand, true: Hand) -> np.ndarray:
    """[21, 5]: 2D error over the box's longer side, 3D error about the wrist in millimetres."""
    size = float((true.box[2:] - true.box[:2]).max())
    relative = hand.keypoints3d - true.keypoints3d
    return np.concatenate(
        [
            (hand.keypoints2d - true.keypoints2d) / size,
            1e3 * (relative - relative[WRIST]),
        ],
        axis=1,
    )


def _second_differences(errors: list[dict[int, np.ndarray]]) -> tuple[list[float], list[float]]:
    pixels, metres = [], []
    for a, b, c in zip(errors, errors[1:], errors[2:], strict=False):
        for t in set(a) & set(b) & set(c):
            second = a[t] - 2 * b[t] + c[t]
            pixels += np.linalg.norm(second[:, :2], axis=1).tolist()
            metres += np.linalg.norm(second[1:, 2:], axis=1).tolist()
    return pixels, metres


def _look_ahead(
    result: Run,
    tracker: HandTracker,
    out: list[Hand],
    matches: dict[int, int],
    frames: list[Frame],
    k: int,
) -> None:
    """The picture's wrists AHEAD_S later, against the truth between two frames."""
    predicted = tracker.predict(AHEAD_S)
    later = k + AHEAD_S / (frames[1].stamp_s - frames[0].stamp_s)
    low, part = int(later), later % 1
    if low + 1 >= len(frames):
        return
    for t, p in matches.items():
        if t in frames[low].truth and t in frames[low + 1].truth:
            a, b = (frames[low + n].truth[t].keypoints2d[WRIST] for n in (0, 1))
            there = a + (b - a) * part
            size = float((frames[low].truth[t].box[2:] - frames[low].truth[t].box[:2]).max())
            result.note("ahead", np.linalg.norm(out[p].keypoints2d[WRIST] - there) / size)
            result.note("predicted", np.linalg.norm(predicted[p].keypoints2d[WRIST] - there) / size)


def identity_f1(runs: list[Run]) -> float:
    """IDF1: each true hand's best id, each id once; greedy, which differs from the optimum only
    where two hands share two ids evenly."""
    right = outputs = hands = 0
    for one in runs:
        taken: set[int] = set()
        given: set[int] = set()
        for (t, identity), count in one.pairs.most_common():
            if t not in given and identity not in taken:
                given.add(t)
                taken.add(identity)
                right += count
        outputs += one.shown + one.extra
        hands += one.hands
    return 2 * right / max(outputs + hands, 1)


def summary(runs: list[Run]) -> dict[str, float]:
    """One row of a scene's runs."""

    def average(name: str) -> float:
        return mean([value for one in runs for value in one.numbers.get(name, ())])

    hands = sum(one.hands for one in runs)
    return {
        "hands": hands,
        "switches": sum(one.switches for one in runs),
        "IDF1": identity_f1(runs),
        "seen": sum(one.shown for one in runs) / max(hands, 1),
        "extra": 100 * sum(one.extra for one in runs) / max(hands, 1),
        **{
            name: average(name)
            for name in (
                "side in",
                "side",
                "jitter 2D in",
                "jitter 2D",
                "jitter 3D in",
                "jitter 3D",
                "error",
                "place",
                "ahead",
                "predicted",
            )
        },
    }
