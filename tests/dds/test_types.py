from __future__ import annotations

import pytest
from cyclonedds.idl import IdlStruct

from hand_perception.cdr import type_store
from hand_perception.dds.network import DISTROS
from hand_perception.dds.types import dds_type

# As rosidl computes them: `ros2 topic info -v` on Jazzy, for its own and for this package's types.
HASHES = {
    "std_msgs/msg/Header": "f49fb3ae2cf070f793645ff749683ac6b06203e41c891e17701b1cb597ce6a01",
    "sensor_msgs/msg/CameraInfo": (
        "b3dfd68ff46c9d56c80fd3bd4ed22c7a4ddce8c8348f2f59c299e73118e7e275"
    ),
    "hand_perception/msg/HandMeshArray": (
        "e6cd512503fc9a62410f9f6f7b92f9af6fdf81e20df0a853d6acc484dd6f24f3"
    ),
    "hand_perception/msg/HandKeypointsArray": (
        "2d713089454ffca8226e2d95c19cbff1312d179edc742ac82d02e3a9aa3704a7"
    ),
    "hand_perception/msg/HandTopology": (
        "4de8efa39a71e86a41130a23ce012f6df9dd7761b09722e34257a3930a92e56e"
    ),
}


@pytest.mark.parametrize(("name", "value"), HASHES.items())
def test_type_hashes_are_those_of_ros(name, value):
    assert type_store().hash_rihs01(name) == f"RIHS01_{value}"


def test_names_on_the_wire_are_those_of_rmw():
    kind = dds_type(type_store(), "hand_perception/msg/HandMeshArray")
    assert issubclass(kind, IdlStruct)
    assert kind.__idl__.idl_transformed_typename == "hand_perception::msg::dds_::HandMeshArray_"


@pytest.mark.parametrize("distro", DISTROS)
def test_identifiers_have_their_distribution_s_size(distro):
    fields = dict(type_store(distro).fielddefs["rmw_dds_common/msg/Gid"][1])
    _, (_, size) = fields["data"]
    assert size == (24 if distro == "humble" else 16)
