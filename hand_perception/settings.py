"""YAML values into a frozen dataclass; a misspelt key is an error, not a default."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, TypeVar

import yaml

from hand_perception.errors import HandPerceptionError

Kind = TypeVar("Kind")


def build(kind: type[Kind], values: dict[str, Any], error: type[HandPerceptionError]) -> Kind:
    """``kind(**values)``, lists as tuples. Raises ``error`` naming unknown keys."""
    known = {f.name for f in fields(kind)}
    if unknown := set(values) - known:
        raise error(f"unknown settings {sorted(unknown)}: {kind.__name__} has {sorted(known)}")
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def override(
    values: dict[str, Any], assignments: Sequence[str], error: type[HandPerceptionError]
) -> dict[str, Any]:
    """``values`` with assignments such as "decoder.mask=b" made; the value is YAML.

    Raises ``error`` for one that is none.
    """
    changed = dict(values)
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        *groups, key = path.split(".")
        if not equals or not all((*groups, key)):
            raise error(f"{assignment!r} assigns nothing: write for example decoder.mask=b")
        inner = changed
        for group in groups:
            inner[group] = dict(inner.get(group) or {})
            inner = inner[group]
        inner[key] = yaml.safe_load(text)
    return changed
