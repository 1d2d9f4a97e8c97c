"""The rclpy node, activated at once, with the reconstructor of known answer."""

from __future__ import annotations

import sys

from bright_square import BrightSquare

from hand_perception.ros.node import main

sys.exit(main(sys.argv[1:], autostart=True, load=lambda parameters: BrightSquare()))
