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
    "rf_asl_letters": (r"/([A-Z])\d+_jpg", _LETTERS),
    "rf_signify": (r"/([A-Z])\d+_jpg", _LETTERS),
    "rps_cv": (r"/data/(\w+)/", _GAME),
    "sld2062": (r"/Dataset/(\d)/", _DIGITS),
}


def stretched_fingers(set_name: str, source: str) -> tuple[bool, ...] | None:
    """Index to little finger; None where the path does not tell."""
    if set_name not in _SETS:
        return None
    pattern, signs = _SETS[set_name]
    named = re.search(pattern, source)
    if named is None or named[1] not in signs:
        return None
    return tuple(finger == "1" for finger in signs[named[1]])
