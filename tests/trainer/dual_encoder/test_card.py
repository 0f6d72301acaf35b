"""The dual encoder's section of the default model's card."""

import json

from spectra_sum.models.default_dual_encoder import FOLDER, SETTINGS_FILE
from trainer.dual_encoder.card import dual_encoder_section, with_section, with_section_of

SETTINGS = {"recipe": {"joint": 256}, "figures": 4357, "vision_sha256": "aa11", "text_sha256": "bb22"}
RESULTS = {
    "retrieval": {
        "shipped, test": {
            "figures": 571,
            "recall": {"captions": {"1": {"value": 0.1234}, "5": {"value": 0.3}, "10": {"value": 0.5}}},
        }
    }
}


def test_the_section_is_of_settings_and_results():
    section = dual_encoder_section(SETTINGS, RESULTS)
    for text in ("one space of 256 dimensions", "`aa11`", "`bb22`", "Trained on 4,357 figures", "CC BY 4.0"):
        assert text in " ".join(section.split()), text
    assert "| shipped, test | 571 | captions | 0.123 | 0.300 | 0.500 |" in section.replace("\\", "")
    assert "R@10" not in dual_encoder_section(SETTINGS, None)


def test_it_takes_the_place_of_an_earlier_one_and_is_kept():
    first, second = (dual_encoder_section({**SETTINGS, "figures": count}, None) for count in (1, 2))
    card = with_section("# The model\n\nText.\n", first)
    assert card.startswith("# The model\n\nText.\n\n<!-- dual encoder -->") and card.endswith(
        "<!-- /dual encoder -->\n"
    )
    changed = with_section(card + "\nMore.\n", second)
    assert "Trained on 2 figures" in changed and "Trained on 1 " not in changed and changed.endswith("\nMore.\n")
    assert with_section_of("# New\n", card) == with_section("# New\n", first)
    assert with_section_of("# New\n", "# No section\n") == "# New\n"


def test_the_shipped_card_has_the_section_of_the_shipped_heads():
    settings = json.loads((FOLDER / SETTINGS_FILE).read_text(encoding="utf-8"))
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert f"Trained on {settings['figures']:,} figures" in card and settings["vision_sha256"] in card
