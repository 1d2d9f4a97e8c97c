"""The hand node in a process of its own, with the reconstructor of known answer.

python serve_bright_square.py DOMAIN [NAME:=VALUE ...]
"""

from __future__ import annotations

import logging
import signal
import sys
import threading

from bright_square import BrightSquare

from hand_perception.dds.node import serve
from hand_perception.dds.participant import Participant
from hand_perception.node import NODE_NAME
from hand_perception.parameters import NodeParameters

logging.basicConfig(level=logging.INFO, format="[%(levelname)s] %(message)s")
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
signal.signal(signal.SIGINT, lambda *_: stop.set())
parameters = NodeParameters().with_assignments(["diagnostics_period:=0.1", *sys.argv[2:]])
with Participant(NODE_NAME, domain_id=int(sys.argv[1]), localhost=True) as participant:
    serve(participant, parameters, BrightSquare(), stop)
