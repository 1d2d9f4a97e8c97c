"""Which DDS domain and which network interfaces: ROS's environment variables, Cyclone's XML."""

from __future__ import annotations

import os
from collections.abc import Sequence
from xml.sax.saxutils import quoteattr

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
# Participants are looked for at each peer on the ports of the first indices; without multicast
# this is the only way.
_PEERS = """
    <Discovery>
        <ParticipantIndex>auto</ParticipantIndex>
        <MaxAutoParticipantIndex>32</MaxAutoParticipantIndex>
        <Peers>{peers}</Peers>
    </Discovery>
"""


def configuration(localhost: bool, peers: Sequence[str] = ()) -> str:
    """Cyclone DDS's configuration.

    peers: addresses of machines that multicast does not reach. What the user has put into
    CYCLONEDDS_URI overrides it, except that loopback stays loopback.
    """
    body = _SIZES.format(general=_LOOPBACK if localhost else "")
    peers = ["127.0.0.1"] if localhost else list(peers)
    if peers:
        listed = "".join(f"<Peer address={quoteattr(peer)}/>" for peer in peers)
        body += _PEERS.format(peers=listed)
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


def peers_from_environment() -> list[str]:
    """ROS_STATIC_PEERS (Iron on): addresses between semicolons."""
    text = os.environ.get("ROS_STATIC_PEERS", "")
    return [peer.strip() for peer in text.split(";") if peer.strip()]
