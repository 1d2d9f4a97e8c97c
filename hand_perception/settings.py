"""YAML values into a frozen dataclass; a misspelt key is an error, not a default."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, TypeVar

from hand_perception.errors import HandPerceptionError

Kind = TypeVar("Kind")


def build(kind: type[Kind], values: dict[str, Any], error: type[HandPerceptionError]) -> Kind:
    """``kind(**values)``, lists as tuples. Raises ``error`` naming unknown keys."""
    known = {f.name for f in fields(kind)}
    if unknown := set(values) - known:
        raise error(f"unknown settings {sorted(unknown)}: {kind.__name__} has {sorted(known)}")
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
