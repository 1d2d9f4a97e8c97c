"""``hand-perception node`` with the reconstructor of known answer; the same arguments."""

from __future__ import annotations

import argparse
import sys

from bright_square import BrightSquare

from hand_perception.dds.command import add_node_arguments, run_node

parser = argparse.ArgumentParser()
add_node_arguments(parser)
sys.exit(run_node(parser.parse_args(), load=lambda parameters: BrightSquare()))
