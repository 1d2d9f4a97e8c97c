"""Checkpoints without pickle: one safetensors file with a JSON header."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from hand_perception.errors import ModelError


def save(path: Path, groups: dict[str, dict[str, Tensor]], meta: dict) -> None:
    """Writes tensors as "group/name", whole or not at all."""
    tensors = {
        f"{group}/{name}": tensor.detach().cpu().contiguous().clone()
        for group, named in groups.items()
        for name, tensor in named.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    save_file(tensors, partial, {"meta": json.dumps(meta)})
    partial.replace(path)


def load(path: Path) -> tuple[dict[str, dict[str, Tensor]], dict]:
    """Raises ModelError when the file is missing, cut short or of another kind."""
    try:
        groups: dict[str, dict[str, Tensor]] = {}
        with safe_open(path, "pt") as file:
            for key in file.keys():
                group, name = key.split("/", 1)
                groups.setdefault(group, {})[name] = file.get_tensor(key)
            return groups, json.loads(file.metadata()["meta"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"{path} is no readable checkpoint ({error}): train or copy it again"
        ) from error


def load_model(path: Path) -> dict[str, Tensor]:
    """The network's weights in a stage's file. Raises ModelError when there are none."""
    weights, _ = load_stage(path)
    return weights


def load_stage(path: Path) -> tuple[dict[str, Tensor], dict]:
    """The same, and what the file says of them."""
    groups, meta = load(path)
    if "model" not in groups or any(name.startswith("network.") for name in groups["model"]):
        raise ModelError(f"{path} is no stage's file: give detector, joints or mesh.safetensors")
    return groups["model"], meta


def load_part(path: Path, part: str, model: nn.Module) -> None:
    """One part of a stage's file into ``model``. Raises ModelError when it is of other sizes."""
    prefix = f"{part}."
    stored = {k[len(prefix) :]: v for k, v in load_model(path).items() if k.startswith(prefix)}
    try:
        model.get_submodule(part).load_state_dict(stored)
    except (AttributeError, RuntimeError) as error:
        raise ModelError(
            f"{path} holds another {part} than this model's: give one of the same sizes"
        ) from error


def optimiser_tensors(optimiser: torch.optim.Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """The optimiser's state by parameter name."""
    out = {}
    for name, parameter in model.named_parameters():
        for key, value in optimiser.state.get(parameter, {}).items():
            out[f"{name}:{key}"] = torch.as_tensor(value)
    return out


def restore_optimiser(
    optimiser: torch.optim.Optimizer, model: nn.Module, stored: dict[str, Tensor]
) -> None:
    for name, parameter in model.named_parameters():
        state = {
            key.rsplit(":", 1)[1]: value.clone()
            for key, value in stored.items()
            if key.rsplit(":", 1)[0] == name
        }
        if state:
            optimiser.state[parameter] = {
                key: value if key == "step" else value.to(parameter.device)
                for key, value in state.items()
            }
