"""Which DDS domain and which network interfaces: ROS's environment variables, Cyclone's XML."""

from __future__ import annotations

import os

from hand_perception.errors import HandPerceptionError

# ROS 2 distributions whose node graph and messages are known.
DISTROS = ("humble", "iron", "jazzy", "kilted")
# 720p images in 65,500-byte packets through a 4 MB socket buffer all arrive at 30 Hz; with the
# defaults (1,300 bytes, the system's 208 kB) four in ten are lost. "max" only asks: "min" would
# refuse to start where the system allows less.
_SIZES = """
    <General>{general}<MaxMessageSize>65500B</MaxMessageSize></General>
    <Internal><SocketReceiveBufferSize max="4MB"/></Internal>
"""
_LOOPBACK = (
    '<Interfaces><NetworkInterface name="lo" multicast="false"/></Interfaces>'
    "<AllowMulticast>false</AllowMulticast>"
)
# Without multicast, participants look for each other on the ports of the first indices.
_LOOPBACK_DISCOVERY = """
    <Discovery>
        <ParticipantIndex>auto</ParticipantIndex>
        <MaxAutoParticipantIndex>32</MaxAutoParticipantIndex>
        <Peers><Peer address="127.0.0.1"/></Peers>
    </Discovery>
"""


def configuration(localhost: bool) -> str:
    """Cyclone DDS's configuration.

    What the user has put into CYCLONEDDS_URI overrides it, except that loopback stays loopback.
    """
    body = _SIZES.format(general=_LOOPBACK if localhost else "")
    body += _LOOPBACK_DISCOVERY if localhost else ""
    ours = f'<CycloneDDS><Domain id="any">{body}</Domain></CycloneDDS>'
    user = os.environ.get("CYCLONEDDS_URI")
    return f"{ours},{user}" if user and not localhost else ours


def domain_id_from_environment() -> int:
    """ROS_DOMAIN_ID, 0 when unset. Raises HandPerceptionError when it is no domain."""
    text = os.environ.get("ROS_DOMAIN_ID") or "0"
    if not text.isdecimal() or int(text) > 232:
        raise HandPerceptionError(f"ROS_DOMAIN_ID must be a number from 0 to 232, got {text!r}")
    return int(text)


def localhost_from_environment() -> bool:
    """ROS_LOCALHOST_ONLY=1 (Humble) or ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST (Iron on)."""
    discovery_range = os.environ.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "").upper()
    return os.environ.get("ROS_LOCALHOST_ONLY") == "1" or discovery_range == "LOCALHOST"
