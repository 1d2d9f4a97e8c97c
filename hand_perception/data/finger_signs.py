"""Which fingers a photographed sign stretches: told by people who named the sign, not by a tracker.

Public sets name the sign in the path of each picture: letters and digits of American Sign Language,
and rock, paper, scissors. Signs of bent, hooked or touching fingers say nothing about the others
here: C, E, O, P, Q, X and zero are left out.
"""

from __future__ import annotations

import re

# Index to little finger, 1 for a stretched one.
_LETTERS = {
    "A": "0000", "B": "1111", "D": "1000", "F": "0111", "G": "1000", "H": "1100", "I": "0001",
    "J": "0001", "K": "1100", "L": "1000", "M": "0000", "N": "0000", "R": "1100", "S": "0000",
    "T": "0000", "U": "1100", "V": "1100", "W": "1110", "Y": "0001", "Z": "1000",
}  # fmt: skip
_DIGITS = {
    "1": "1000", "2": "1100", "3": "1100", "4": "1111", "5": "1111", "6": "1110", "7": "1101",
    "8": "1011", "9": "0111",
}  # fmt: skip
_GAME = {"rock": "0000", "paper": "1111", "scissors": "1100"}
_SETS = {
    "rf_asl_letters": (re.compile(r"/([A-Z])\d+_jpg"), _LETTERS),
    "rf_signify": (re.compile(r"/([A-Z])\d+_jpg"), _LETTERS),
    "rps_cv": (re.compile(r"/data/(\w+)/"), _GAME),
    "sld2062": (re.compile(r"/Dataset/(\d)/"), _DIGITS),
}


def stretched_fingers(set_name: str, source: str) -> tuple[bool, ...] | None:
    """Index to little finger; None where the path does not tell."""
    pattern, signs = _SETS.get(set_name, (None, {}))
    named = pattern.search(source) if pattern else None
    fingers = signs.get(named[1]) if named else None
    return None if fingers is None else tuple(finger == "1" for finger in fingers)
