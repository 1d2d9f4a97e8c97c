"""Prints the joint angles of a picture's hands, in degrees.

python examples/joint_angles.py picture.jpg [--model handos_s]
"""

from __future__ import annotations

import argparse

import numpy as np

from hand_perception.articulation import articulate
from hand_perception.imaging import read_image
from hand_perception.reconstructor import HandReconstructor

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("picture")
parser.add_argument("--model", default="auto", help="name or folder (%(default)s)")
args = parser.parse_args()

reconstructor = HandReconstructor.from_pretrained(args.model)
hands = reconstructor(read_image(args.picture)).hands
for hand in hands:
    pose = articulate(hand, reconstructor.topology)
    print(f"{hand.side.value} hand, score {hand.score:.2f}")
    for name, angle in zip(pose.names, np.degrees(pose.angles), strict=True):
        print(f"  {name:28s} {angle:6.1f}")
if not hands:
    print("no hands found")
