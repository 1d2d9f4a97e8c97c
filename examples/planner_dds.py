"""The same as planner.py without ROS: the distance of each hand to the camera, from any node.

python examples/planner_dds.py
"""

import numpy as np

from hand_perception.dds.network import domain_id_from_environment, localhost_from_environment
from hand_perception.dds.participant import RELIABLE, Participant
from hand_perception.dds.stop import stop_on_signals
from hand_perception.topics import MESH


def on_hands(message, *_) -> None:
    for hand in message.hands:
        distance = np.linalg.norm(hand.vertices.reshape(-1, 3), axis=1).min()
        side = "left" if hand.side == hand.LEFT else "right"
        print(f"{side} hand {hand.track_id} at {distance:.2f} m", flush=True)


network = dict(domain_id=domain_id_from_environment(), localhost=localhost_from_environment())
with Participant("planner", **network) as participant:
    participant.subscribe(MESH.topic, MESH.type_name, on_hands, RELIABLE)
    stop_on_signals().wait()
