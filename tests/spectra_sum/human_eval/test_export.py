"""The export: what a form shows and hides, equal items across systems, the table and the key."""

import base64
import csv
import io
import json
import re
from collections import Counter

import html5lib
import pytest
from PIL import Image

from spectra_sum.human_eval.export import form, items_csv, write_batch
from spectra_sum.human_eval.images import encode_image
from spectra_sum.human_eval.items import build_batch
from spectra_sum.human_eval.questions import HumanEvalError
from tests.spectra_sum.human_eval.conftest import HOSTILE, SYSTEMS
from tests.tiny import picture


def parse(page: str):
    parser = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False)
    return parser.parse(page)


@pytest.fixture
def batch(records, predictions):
    """All articles with images: 9 rated, 2 for checks."""
    return build_batch(records, predictions, items=9, attention_checks=2, seed=1)


def test_every_system_gets_the_same_articles(batch, records):
    rated = [item for item in batch.items if item.expected is None]
    first, second = ({i.article_id: (i.title, i.article) for i in rated if i.system == name} for name in SYSTEMS)
    assert first == second and len(first) == 9 and len(rated) == 18
    texts = {row["id"]: (row["title"], row["article"]) for row in records}
    assert all(texts[article] == text for article, text in first.items())
    assert "article-secret-11" not in first and batch.articles_without_images == 1
    assert len({item.id for item in batch.items}) == len(batch.items) == 20


def test_order_follows_the_seed_and_mixes_the_systems(records, predictions):
    def order(seed: int, systems=SYSTEMS):
        chosen = {name: predictions[name] for name in systems}
        return build_batch(records, chosen, items=6, attention_checks=0, seed=seed)

    assert order(1) == order(1)
    assert order(1).id != order(2).id and [i.article_id for i in order(1).items] != [
        i.article_id for i in order(2).items
    ]
    systems = [item.system for item in order(1).items]
    assert systems != sorted(systems) and systems != sorted(systems, reverse=True)
    # A later batch with one system more shows the same articles.
    assert {i.article_id for i in order(1).items} == {i.article_id for i in order(1, SYSTEMS[:1]).items}


def test_attention_checks(batch):
    checks = [item for item in batch.items if item.expected is not None]
    assert sorted(item.expected for item in checks) == [1, 2]
    for item in checks:
        assert item.summary.endswith(
            f"This is an attention check: for this item, choose {item.expected} for every question."
        )
    rated = {item.article_id for item in batch.items if item.expected is None}
    assert not rated & {item.article_id for item in checks}
    assert not any("attention check" in item.summary for item in batch.items if item.expected is None)


def test_too_few_articles(records, predictions):
    with pytest.raises(
        HumanEvalError, match="--items 10 and --attention-checks 2 need 12 articles with images; the data has 11"
    ):
        build_batch(records, predictions, items=10, attention_checks=2, seed=0)


def test_an_image_that_cannot_be_decoded_names_its_article(records, predictions, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    rows = [{**row, "images": [str(tmp_path / "broken.jpg")] * 4} for row in records.remove_columns("images")]
    broken = type(records).from_list(rows, features=records.features)
    with pytest.raises(
        HumanEvalError, match=r"article 'article-secret-\d+': an image cannot be decoded \(cannot identify"
    ):
        build_batch(broken, predictions, items=1, attention_checks=0, seed=0)


def test_form_hides_systems_and_key(batch):
    page = form(batch)
    for name in SYSTEMS:
        assert name not in page
    assert "secret" not in page and "expected" not in page
    ids = [section.get("data-item") for section in parse(page).iter("section") if section.get("data-item")]
    assert ids == [item.id for item in batch.items]
    assert all(re.fullmatch(r"item-[0-9a-f]{8}-\d{3}", item_id) for item_id in ids)


def test_form_shows_each_item_with_its_images(batch):
    sections = [section for section in parse(form(batch)).iter("section") if section.get("data-item")]
    for section, item in zip(sections, batch.items, strict=True):
        text = " ".join("".join(section.itertext()).split())
        assert " ".join(item.title.split()) in text
        assert " ".join((item.summary or "The text of this summary is empty.").split()) in text
        assert all(" ".join(part.split()) in text for part in item.article.split("\n\n"))
        sources = [image.get("src") for image in section.iter("img")]
        assert [base64.b64decode(uri.partition(",")[2]) for uri in sources] == [image.content for image in item.images]
        assert ("This summary has no image." in text) == (not item.images)
        for image in section.iter("img"):
            assert image.get("src").startswith("data:image/png;base64,") and image.get("alt").startswith("Image ")


def test_selected_images_in_order(records, predictions):
    batch = build_batch(records, {SYSTEMS[0]: predictions[SYSTEMS[0]]}, items=1, attention_checks=0, seed=0)
    (item,) = batch.items
    number = int(item.article_id.rpartition("-")[2])
    shown = [Image.open(io.BytesIO(image.content)).convert("RGB").tobytes() for image in item.images]
    assert shown == [picture(10 * number + n).tobytes() for n in (2, 0, 1)]


def test_form_escapes_and_forbids(batch):
    assert any(item.title == HOSTILE for item in batch.items)
    page = form(batch)
    tree = parse(page)
    assert len(list(tree.iter("script"))) == len(list(tree.iter("style"))) == 1
    assert len(list(tree.iter("img"))) == sum(len(item.images) for item in batch.items)
    assert not list(tree.iter("textarea")) and not list(tree.iter("link"))
    for element in tree.iter():
        assert not any(name.startswith("on") or name in ("style", "srcset") for name in element.attrib)
        assert not element.get("href") and not element.get("action")
    assert "{{ 7 * 7 }}" in "".join(tree.itertext())
    policy = next(m.get("content") for m in tree.iter("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert "unsafe" not in policy and "http" not in policy and "form-action 'none'" in policy


def test_form_has_a_legend_and_a_label_for_everything(batch):
    tree = parse(form(batch))
    fieldsets = list(tree.iter("fieldset"))
    assert len(fieldsets) == 4 * len(batch.items)
    names = Counter()
    for fieldset in fieldsets:
        assert fieldset[0].tag == "legend"
        labels = list(fieldset.iter("label"))
        radios = [radio for label in labels for radio in label.iter("input")]
        assert [radio.get("value") for radio in radios] == ["1", "2", "3", "4", "5"]
        names.update({radio.get("name") for radio in radios})
    assert set(names.values()) == {1}
    ids = [element.get("id") for element in tree.iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    assert {label.get("for") for label in tree.iter("label") if label.get("for")} == {"worker"} <= set(ids)
    assert all(section.get("aria-labelledby") in ids for section in tree.iter("section"))


def test_items_csv(batch, tmp_path):
    write_batch(tmp_path, batch, {})
    text = (tmp_path / "items.csv").read_bytes().decode()
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert list(rows[0]) == ["item_id", "title", "article", "summary", "image_1", "image_2", "image_3"]
    assert [row["item_id"] for row in rows] == [item.id for item in batch.items]
    assert "secret" not in text
    named = set()
    for row, item in zip(rows, batch.items, strict=True):
        assert row["article"].removeprefix("'") == item.article and row["summary"].removeprefix("'") == item.summary
        names = [row[f"image_{n}"] for n in (1, 2, 3) if row[f"image_{n}"]]
        assert [(tmp_path / name).read_bytes() for name in names] == [image.content for image in item.images]
        named.update(names)
    assert named == {f"images/{path.name}" for path in (tmp_path / "images").iterdir()}


def test_cells_cannot_be_formulas(records, predictions):
    batch = build_batch(records, predictions, items=11, attention_checks=0, seed=0)
    text, guarded = items_csv(batch)
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert not any(cell[:1] in ("=", "+", "-", "@", "\t", "\r") for row in rows for cell in row)
    by_title = [row for row in rows if row[1] == '\'=HYPERLINK("http://x","y")']
    assert len(by_title) == 2 and all(row[2] == "'+1 first paragraph.\n\nSecond." for row in by_title)
    # Article 1: title and body, twice. The second system's summaries begin with a hyphen, but for the empty one.
    assert guarded == 2 * 2 + 10
    assert sum(cell.startswith("'") for row in rows for cell in row) == guarded


def test_key(batch, tmp_path):
    write_batch(tmp_path, batch, {"seed": 1})
    key = json.loads((tmp_path / "key.json").read_text())
    assert key["batch"] == batch.id and key["settings"] == {"seed": 1}
    assert key["items"] == {
        item.id: {
            "system": item.system,
            "article_id": item.article_id,
            "attention_check": item.expected is not None,
            "expected": item.expected,
        }
        for item in batch.items
    }


def test_encoded_images_are_small_and_carry_no_metadata():
    image = picture(1, (1280, 320))
    image.info["comment"] = b"taken from system zebra"
    image.info["icc_profile"] = b"profile of system zebra"
    encoded = encode_image(image)
    assert (encoded.kind, encoded.suffix, encoded.width, encoded.height) == ("jpeg", ".jpg", 640, 160)
    assert b"zebra" not in encoded.content and not encoded.pixelated
    small = encode_image(picture(2))
    assert (small.kind, small.suffix, small.pixelated) == ("png", ".png", True)
    assert Image.open(io.BytesIO(small.content)).tobytes() == picture(2).tobytes()
