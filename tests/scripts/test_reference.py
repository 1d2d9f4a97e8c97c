from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

pytest.importorskip("rosbags", reason="needs the bag extra")

ROOT = Path(__file__).parent.parent.parent


def load(name: str):
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_is_what_the_code_says():
    script = load("make_reference")
    written = script.REFERENCE.read_text(encoding="utf-8")
    assert written == script.reference(), "stale: run python scripts/make_reference.py"


def test_every_page_of_the_documentation_that_is_linked_exists():

    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:\s]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links {target}"
