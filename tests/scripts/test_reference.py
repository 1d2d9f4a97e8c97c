from __future__ import annotations

import re

import pytest
from script_file import ROOT, load_script

pytest.importorskip("rosbags", reason="needs the bag extra")


def test_the_reference_is_what_the_code_says():
    script = load_script("scripts/make_reference.py")
    written = script.REFERENCE.read_text(encoding="utf-8")
    assert written == script.reference(), "stale: run python scripts/make_reference.py"


def test_every_page_of_the_documentation_that_is_linked_exists():

    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:\s]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links {target}"
