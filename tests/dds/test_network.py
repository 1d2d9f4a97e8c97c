from __future__ import annotations

import pytest

from hand_perception.dds import network, participant
from hand_perception.dds.participant import Participant
from hand_perception.errors import HandPerceptionError


@pytest.mark.parametrize(("text", "number"), [("", 0), ("7", 7), ("232", 232)])
def test_domain_comes_from_ros_s_variable(monkeypatch, text, number):
    monkeypatch.setenv("ROS_DOMAIN_ID", text)
    assert network.domain_id_from_environment() == number


@pytest.mark.parametrize("text", ["233", "-1", "two"])
def test_impossible_domains_are_refused(monkeypatch, text):
    monkeypatch.setenv("ROS_DOMAIN_ID", text)
    with pytest.raises(HandPerceptionError, match="0 to 232"):
        network.domain_id_from_environment()


@pytest.mark.parametrize(
    ("name", "value", "localhost"),
    [
        ("ROS_LOCALHOST_ONLY", "1", True),
        ("ROS_LOCALHOST_ONLY", "0", False),
        ("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST", True),
        ("ROS_AUTOMATIC_DISCOVERY_RANGE", "SUBNET", False),
    ],
)
def test_localhost_comes_from_ros_s_variables(monkeypatch, name, value, localhost):
    monkeypatch.delenv("ROS_LOCALHOST_ONLY", raising=False)
    monkeypatch.delenv("ROS_AUTOMATIC_DISCOVERY_RANGE", raising=False)
    monkeypatch.setenv(name, value)
    assert network.localhost_from_environment() is localhost


def test_the_user_s_configuration_comes_last_and_so_wins(monkeypatch):
    monkeypatch.setenv("CYCLONEDDS_URI", "file:///etc/cyclone.xml")
    assert network.configuration(False).endswith("</CycloneDDS>,file:///etc/cyclone.xml")


def test_loopback_stays_loopback_whatever_the_user_configured(monkeypatch):
    monkeypatch.setenv("CYCLONEDDS_URI", "file:///etc/cyclone.xml")
    assert "cyclone.xml" not in network.configuration(True)


def test_a_broken_configuration_is_one_clear_error(monkeypatch, domain, capfd):
    monkeypatch.setattr(participant, "configuration", lambda *_: "<Nonsense/>")
    with pytest.raises(HandPerceptionError, match="CYCLONEDDS_URI") as caught:
        Participant("broken", domain_id=domain, localhost=True)
    assert "\n" not in str(caught.value)
    assert "Nonsense" in capfd.readouterr().err  # Cyclone itself names the place


def test_peers_come_from_ros_s_variable(monkeypatch):
    monkeypatch.setenv("ROS_STATIC_PEERS", "192.168.1.5; robot.local;")
    assert network.peers_from_environment() == ["192.168.1.5", "robot.local"]
    monkeypatch.delenv("ROS_STATIC_PEERS")
    assert network.peers_from_environment() == []


def test_peers_are_asked_besides_the_network_but_not_from_loopback(monkeypatch):
    monkeypatch.delenv("CYCLONEDDS_URI", raising=False)
    assert '<Peer address="robot.local"/>' in network.configuration(False, ["robot.local"])
    assert "robot.local" not in network.configuration(True, ["robot.local"])
    assert "Peers" not in network.configuration(False)
