"""A client of ROS 2 services over Cyclone DDS, as rmw_cyclonedds's are."""

from __future__ import annotations

import itertools
import os
import queue
import time
from typing import Any

from cyclonedds.qos import Policy

from hand_perception.dds import wire
from hand_perception.dds.participant import RELIABLE, Participant
from hand_perception.dds.service_types import (
    pack,
    request_name,
    response_name,
    service_dds_type,
    unpack,
)

PATIENCE = 60.0  # seconds until a call gives up; nothing waits for so long


class ServiceClient:
    def __init__(self, participant: Participant, name: str, type_name: str) -> None:
        self._participant = participant
        self._store = participant.store
        self._name = participant.resolve(name)
        self._request, self._response = request_name(type_name), response_name(type_name)
        self._client = int.from_bytes(os.urandom(8), "little")
        self._numbers = itertools.count(1)
        self._replies: queue.SimpleQueue = queue.SimpleQueue()
        mark = f"clientid={self._client:x};"
        policies = (*RELIABLE, Policy.History.KeepLast(10))
        self._writer = participant._make_writer(
            self._topic("rq", "Request", self._request), self._request, policies, mark
        )
        self._subscription = participant._make_subscription(
            self._topic("rr", "Reply", self._response),
            self._response,
            policies,
            lambda cdr, _: self._replies.put(unpack(self._store, cdr, self._response)),
            mark,
        )

    def _topic(self, prefix: str, suffix: str, type_name: str) -> Any:
        kind = service_dds_type(self._store, type_name)
        return self._participant._topic(f"{prefix}{self._name}{suffix}", kind)

    def call(self, **fields: Any) -> Any:
        """The response to a request with these fields."""
        deadline = time.monotonic() + PATIENCE
        reader = self._subscription.reader
        while not (self._writer.get_matched_subscriptions() and reader.get_matched_publications()):
            assert time.monotonic() < deadline, f"nobody offers {self._name}"
            time.sleep(0.01)
        number = next(self._numbers)
        request = self._participant.types.make(self._request, **fields)
        cdr = pack(self._store, request, self._client, number)
        wire.write(self._writer, wire.sertype_of(self._writer), cdr)
        while True:
            response, client, answered = self._replies.get(timeout=PATIENCE)
            if (client, answered) == (self._client, number):
                return response
