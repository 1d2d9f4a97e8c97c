import json

from script_file import load_script

CARDS = load_script("scripts/write_cards.py")


def test_a_card_gets_the_rows_that_it_shows_and_keeps_the_rest(tmp_path):
    (tmp_path / "model.json").write_text(json.dumps({"name": "a", "data": "old", "scores": {}}))
    row = {
        "photographs": {"all": {"recall": 0.9}, "all, large": {"recall": 1.0}, "one set": {}},
        "looking_ms": 3.0,
    }
    CARDS.write_card(tmp_path, row)
    card = json.loads((tmp_path / "model.json").read_text())
    assert card["scores"] == {"real val": {"all": {"recall": 0.9}, "all, large": {"recall": 1.0}}}
    assert card["name"] == "a" and card["data"] == "old"
    row["synthetic"] = {"all": {"depth": 0.1}, "all, large": {"depth": 0.2}, "large": {}}
    CARDS.write_card(tmp_path, row, "new")
    card = json.loads((tmp_path / "model.json").read_text())
    assert card["scores"]["synthetic val"]["all, large"] == {"depth": 0.2}
    assert card["data"] == "new"
