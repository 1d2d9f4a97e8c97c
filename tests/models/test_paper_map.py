"""docs/handos.md and docs/mobrecon.md name the code of each equation, table and figure: every name
must exist."""

import ast
import re
from pathlib import Path

import pytest

import hand_perception

PACKAGE = Path(hand_perception.__file__).parent
DOC = (PACKAGE.parent / "docs" / "handos.md").read_text()
MOBRECON = (PACKAGE.parent / "docs" / "mobrecon.md").read_text()
# `path.py: name, name.name`
NAMED = re.compile(r"`([\w/]+\.py): ([\w., ]+)`")


def names_in(source: str) -> set[str]:
    """Functions, classes and assigned names of a module; methods as Class.method."""
    found = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
            found |= {f"{node.name}.{n.name}" for n in node.body if hasattr(n, "name")}
        elif isinstance(node, ast.Assign):
            found |= {t.id for t in node.targets if isinstance(t, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
    return found


def test_names_are_found():
    source = "A = 1\nb: int = 2\ndef f(): ...\nclass C:\n    def m(self): ...\n"
    assert names_in(source) == {"A", "b", "f", "C", "C.m"}


@pytest.mark.parametrize("path, names", sorted(set(NAMED.findall(DOC + MOBRECON))))
def test_what_the_paper_map_names_exists(path, names):
    missing = {n.strip() for n in names.split(",")} - names_in((PACKAGE / path).read_text())
    assert missing == set(), path


@pytest.mark.parametrize(
    "part",
    [*(f"eq. {k}" for k in (1, 2, 3, 4, 5, 8, 9, 10, 11)), "eq. 6, 7", "eq. XII"]
    + [f"Table {k}" for k in ("2", "5", "6", "7", "VIII", "IX")]
    + ["Tables 1, 3, 4, X", "Fig. 3a", "Fig. 3b", "Fig. 4", "Fig. 7", "Fig. 8", "Fig. IX"],
)
def test_the_map_is_complete(part):
    table = DOC.split("## The map")[1].split("## ")[0]
    assert part in table


@pytest.mark.parametrize(
    "part",
    [f"eq. {k}" for k in range(1, 11) if k != 8] + ["Table 1", "Table 2", "Table 3", "Fig. 4"],
)
def test_the_map_of_mobrecon_is_complete(part):
    assert part in MOBRECON
