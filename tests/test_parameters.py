from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from hand_perception.parameters import (
    NodeParameters,
    ParameterError,
    read_parameter_file,
    split_qos_overrides,
)

SHIPPED = Path(__file__).parent.parent / "config" / "hands.yaml"


def write(folder: Path, text: str) -> Path:
    path = folder / "params.yaml"
    path.write_text(text)
    return path


def test_the_shipped_file_states_every_default():
    parameters = NodeParameters.from_yaml(SHIPPED)
    assert parameters == NodeParameters()
    assert all(f"{spec.name}:" in SHIPPED.read_text() for spec in fields(NodeParameters))


def test_every_parameter_is_described():
    assert all(spec.metadata["description"].endswith(".") for spec in fields(NodeParameters))


def test_sections_of_the_node_win_over_the_wildcard(tmp_path):
    path = write(
        tmp_path,
        "/**: {ros__parameters: {model: a, score_threshold: 0.2}}\n"
        "other_node: {ros__parameters: {nonsense: 1}}\n"
        "/robot/hand_perception: {ros__parameters: {model: b}}\n",
    )
    parameters = NodeParameters.from_yaml(path)
    assert (parameters.model, parameters.score_threshold) == ("b", 0.2)


def test_whole_numbers_serve_as_floats():
    assert NodeParameters(max_rate=15).max_rate == 15.0
    assert type(NodeParameters(max_rate=15).max_rate) is float


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"score_threshold": 1.5}, "score_threshold must be from 0.0 to 1.0"),
        ({"score_threshold": float("nan")}, "score_threshold must be from"),
        ({"score_threshold": True}, "score_threshold must be float"),
        ({"compressed": "yes"}, "compressed must be bool"),
        ({"threads": 2.0}, "threads must be int"),
        ({"model": ""}, "model must not be empty"),
        ({"hand_length_m": 0.05}, "hand_length_m must be 0 or from 0.09"),
        ({"cameras": [1]}, "cameras must hold names"),
        ({"cameras": "left"}, "cameras must be tuple"),
        ({"cameras": ["a", "a"]}, "cameras names one twice"),
        ({"cameras": ["a", "b"], "image_topic": "/image"}, "image_topic must be a relative name"),
        ({"scor_threshold": 0.5}, "unknown parameter 'scor_threshold'"),
    ],
)
def test_wrong_values_are_named(values, complaint):
    with pytest.raises(ParameterError, match=complaint):
        NodeParameters().changed(values)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no parameters for"),
        ("model: x", "no parameters for"),
        ("/**: {model: x}", "lacks ros__parameters"),
        ("/**: [", "cannot read"),
    ],
)
def test_files_of_another_layout_are_refused(tmp_path, text, complaint):
    with pytest.raises(ParameterError, match=complaint) as caught:
        NodeParameters.from_yaml(write(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_nested_names_and_qos_overrides(tmp_path):
    path = write(
        tmp_path,
        "/**: {ros__parameters: {model: a, qos_overrides: {/image: {subscription: "
        "{reliability: reliable, depth: 3}}}}}\n",
    )
    own, overrides = split_qos_overrides(read_parameter_file(path))
    assert own == {"model": "a"}
    assert overrides == {
        "qos_overrides./image.subscription.reliability": "reliable",
        "qos_overrides./image.subscription.depth": 3,
    }
    assert NodeParameters.from_yaml(path).model == "a"


def test_one_empty_name_stands_for_no_camera():
    assert NodeParameters(cameras=[""]).cameras == ()
    assert NodeParameters(cameras=["left", "right"]).cameras == ("left", "right")


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(ParameterError, match="cannot read"):
        NodeParameters.from_yaml(tmp_path / "none.yaml")


def test_assignments_hold_yaml():
    parameters = NodeParameters().with_assignments(
        ["score_threshold:=0.25", "compressed:=true", "frame_prefix:="]
    )
    assert (parameters.score_threshold, parameters.compressed) == (0.25, True)
    with pytest.raises(ParameterError, match="name:=value"):
        NodeParameters().with_assignments(["model=x"])


def test_only_some_parameters_may_change_while_running():
    settled = NodeParameters().settled_names_in(["model", "score_threshold", "image_topic"])
    assert settled == ["image_topic", "model"]
