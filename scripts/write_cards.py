"""Writes what `benchmarks/engines.py` measured into the model folders that it measured.

    python benchmarks/engines.py --data PHOTOGRAPHS --synthetic RENDERED --output engines.json
    python scripts/write_cards.py engines.json [--data "what the weights were trained on"]

`model.json` then has the scores of the files beside it, as docs/model_cards.md shows them.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from hand_perception.runtime.backend import ModelFolder

# Of the tables' rows: all hands, and those over 48 px.
ROWS = ("all", "all, large")
# What engines.py calls a table, and what a card does.
TABLES = {"photographs": "real val", "synthetic": "synthetic val"}


def scores(row: dict) -> dict[str, dict]:
    """Of one engine's measurements: the rows of each table that was made."""
    return {
        title: {name: row[table][name] for name in ROWS}
        for table, title in TABLES.items()
        if table in row
    }


def write_card(folder: Path, row: dict, data: str | None = None) -> None:
    path = folder / "model.json"
    card = json.loads(path.read_text())
    if data:
        card["data"] = data
    card["scores"] = scores(row)
    path.write_text(json.dumps(card, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("measured", type=Path, help="the .json of benchmarks/engines.py")
    parser.add_argument("--data", help="what all of them were trained on")
    parser.add_argument("--models", nargs="+", help="of those measured, by default all of ours")
    args = parser.parse_args()
    rows = json.loads(args.measured.read_text())["rows"]
    for name in args.models or [name for name in rows if "identity" in rows[name]]:
        folder = ModelFolder.open(name).path
        write_card(folder, rows[name], args.data)
        print(f"wrote {folder / 'model.json'}")


if __name__ == "__main__":
    main()
