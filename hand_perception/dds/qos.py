"""Quality of service: what endpoints ask for, and how ROS's parameters override it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cyclonedds.qos import Policy

from hand_perception.parameters import QOS_OVERRIDES, ParameterError

# A reliable reader that stalls may hold a writer up for so long, nanoseconds.
_MAX_BLOCKING = 20_000_000

BEST_EFFORT = (Policy.Reliability.BestEffort,)
RELIABLE = (Policy.Reliability.Reliable(_MAX_BLOCKING),)
LATCHED = (*RELIABLE, Policy.Durability.TransientLocal)

_CHOICES = {
    "reliability": {
        "best_effort": Policy.Reliability.BestEffort,
        "reliable": Policy.Reliability.Reliable(_MAX_BLOCKING),
    },
    "durability": {
        "volatile": Policy.Durability.Volatile,
        "transient_local": Policy.Durability.TransientLocal,
    },
    "history": {"keep_last": None, "keep_all": Policy.History.KeepAll},
    "depth": None,
}


class QosOverrides:
    """Parameters ``qos_overrides.<full topic>.<publisher or subscription>.<policy>``, as rclpy's.

    Policies: reliability (best_effort, reliable), durability (volatile, transient_local), history
    (keep_last, keep_all) and depth. Raises ParameterError on any other name or value.
    """

    def __init__(self, values: Mapping[str, Any] | None = None) -> None:
        self._values: dict[tuple[str, str], dict[str, Any]] = {}
        for name, value in (values or {}).items():
            topic, kind, policy = _parsed(name)
            choices = _CHOICES[policy]
            if choices is None:
                if type(value) is not int or value < 1:
                    raise ParameterError(f"parameter {name} must be a number above 0, got {value}")
            elif value not in choices:
                raise ParameterError(
                    f"parameter {name} must be one of {', '.join(choices)}, got {value!r}"
                )
            self._values.setdefault((topic, kind), {})[policy] = value

    def applied(self, topic: str, kind: str, qos: tuple, depth: int) -> tuple:
        """The policies of an endpoint. kind: "publisher" or "subscription"."""
        changes = self._values.get((topic, kind), {})
        policies = {policy.__scope__: policy for policy in qos}
        policies["History"] = Policy.History.KeepLast(changes.get("depth", depth))
        for name, value in changes.items():
            choice = _CHOICES[name] and _CHOICES[name][value]
            if choice is not None:
                policies[choice.__scope__] = choice
        return tuple(policies.values())


def _parsed(name: str) -> tuple[str, str, str]:
    parts = name.removeprefix(QOS_OVERRIDES).rsplit(".", 2)
    if len(parts) != 3 or parts[1] not in ("publisher", "subscription") or parts[2] not in _CHOICES:
        raise ParameterError(
            f"parameter {name} must be {QOS_OVERRIDES}<topic>.<publisher or subscription>."
            f"<{', '.join(_CHOICES)}>"
        )
    return parts[0], parts[1], parts[2]
