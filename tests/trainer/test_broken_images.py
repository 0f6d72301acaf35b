"""Training on truncated images: it goes on as on data without them, and each is named, counted and recorded."""

import json
import logging
import shutil
from pathlib import Path

import pytest
import torch

from spectra_sum.msmo import load_msmo
from spectra_sum.records.article_images import BrokenImage
from tests.trainer.features.feature_setup import save_backbones, write_msmo
from tests.trainer.training_setup import write_settings
from trainer.broken_images import BrokenImages, RecordBrokenImages
from trainer.building import build_trainer
from trainer.data import load_records
from trainer.train import main, parse_arguments

# By split, article and image: of the first training article one of four, the only image of another, and in each other split
# one. What a file is called stands behind it.
BROKEN = {
    "train_data": [(0, 2), (3, 1), (5, 1)],
    "valid_data": [(0, 1)],
    "test_data": [(0, 1), (1, 3)],
}


def file_of(folder: Path, split: str, article: int, image: int) -> Path:
    return folder / split / "img" / f"{split[:2]}{article:038x}_{image}.jpg"


@pytest.fixture(scope="module")
def setup(tmp_path_factory) -> Path:
    """Twice the same articles: with truncated images in `broken`, and without these images in `clean`."""
    root = tmp_path_factory.mktemp("setup")
    write_msmo(root / "broken")
    gold = [f"{'te'}{0:038x}_1.jpg", f"{'te'}{1:038x}_2.jpg {'te'}{1:038x}_3.jpg"]
    (root / "broken" / "test_data" / "image_annotation.txt").write_text("\n".join([*gold, ""]))
    shutil.copytree(root / "broken", root / "clean")
    for split, places in BROKEN.items():
        for place in places:
            path = file_of(root / "broken", split, *place)
            content = path.read_bytes()
            path.write_bytes(content[: len(content) - 150])
            file_of(root / "clean", split, *place).unlink()
    save_backbones(root)
    # Only images up to the limit are read, so that none of the clean articles comes up from behind.
    fields = {"max_candidate_images": 8, "max_images": 8, "max_steps": 3, "save_strategy": "steps", "save_steps": 3}
    write_settings(root / "config.yaml", eval_strategy="steps", eval_steps=3, **fields)
    return root


def arguments(setup: Path, data: str, output: Path, *more: str) -> list[str]:
    argv = ["--config", str(setup / "config.yaml"), "--dataset", str(setup / data), "--output_dir", str(output)]
    return [*argv, "--vision_backbone", str(setup / "siglip"), "--text_backbone", str(setup / "text"), *more]


def log_of(output: Path) -> list[dict]:
    history = json.loads((output / "trainer_state.json").read_text())["log_history"]
    names = ("loss", "loss_lm", "loss_align", "loss_distill", "grad_norm")
    return [{name: entry[name] for name in names} for entry in history if "loss" in entry]


@pytest.fixture(scope="module")
def clean_run(setup, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("clean")
    main(arguments(setup, "clean", output))
    return output


def test_the_images_are_broken_and_pass_their_header(setup):
    for verify, count in (("header", 0), ("full", 6)):
        splits = load_msmo(setup / "broken", verify=verify, cache_dir=setup / "cache")
        counts = {name: sum(map(len, split.with_format("arrow")["images"])) for name, split in splits.items()}
        assert sum(counts.values()) == 21 + 9 + 5 - count


@pytest.mark.parametrize(
    "more",
    [
        ("--dataloader_num_workers", "1"),
        ("--verify", "full"),
        ("--cache", "embeddings"),
        ("--cache", "patches"),
    ],
)
def test_training_is_that_on_data_without_them(setup, clean_run, tmp_path, capsys, monkeypatch, caplog, more):
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    if "--cache" in more:
        more = (*more, "--cache_dir", str(tmp_path / "cache"))
    output = tmp_path / "run"
    main(arguments(setup, "broken", output, *more))
    for row, expected in zip(log_of(output), log_of(clean_run), strict=True):
        # The feature cache computes other batches than a training, whose sums round otherwise.
        assert row == pytest.approx(expected, rel=1e-4 if "--cache" in more else 1e-9)
    metrics, clean = (json.loads((path / "metrics.json").read_text()) for path in (output, clean_run))
    names = [name for name in clean if name.startswith("test_") and "per_second" not in name and "runtime" not in name]
    assert "test_image_precision" in names
    assert {name: metrics[name] for name in names} == pytest.approx({name: clean[name] for name in names}, rel=1e-4)
    record = json.loads((output / "run.json").read_text())
    if "full" in more:
        assert record["data"]["damage"] == {
            "train": {"broken_image": 3},
            "validation": {"broken_image": 1},
            "test": {"broken_image": 2, "gold_image_broken": 2},
        }
        assert "dropped" not in record
        return
    expected = {"broken_images": 6, "broken_gold_images": 2, "articles_made_text_only": 2}
    assert record["dropped"] == expected and expected.items() <= metrics.items()
    named = {entry["file"] for entry in record["broken_images"]}
    paths = [file_of(setup / "broken", split, *place) for split, places in BROKEN.items() for place in places]
    assert named == {path.name for path in paths}
    # Where the data lies stays out of what goes with the model.
    assert str(setup) not in json.dumps(record["broken_images"])
    assert "counted: 6 broken_images (run.json names the images)" in capsys.readouterr().out
    for path in paths:
        warnings = [message for message in caplog.messages if str(path) in message]
        assert warnings and "left out" in warnings[0] and "replace the file" in warnings[0]


def test_an_image_that_breaks_after_its_features_were_cached(setup, tmp_path):
    """The embeddings of the images that remain are those that were cached."""
    shutil.copytree(setup / "clean", tmp_path / "data")
    path = file_of(tmp_path / "data", "train_data", 0, 3)
    argv = ["--config", str(setup / "config.yaml"), "--dataset", str(tmp_path / "data"), "--output_dir", str(tmp_path)]
    argv += ["--vision_backbone", str(setup / "siglip"), "--text_backbone", str(setup / "text")]
    argv += ["--cache", "embeddings", "--cache_dir", str(tmp_path / "cache")]
    parsed = parse_arguments(argv)
    records = load_records(parsed[0])
    trainer = build_trainer(*parsed, records)
    articles = trainer.get_train_dataloader().dataset
    [row] = [row for row, name in enumerate(records["train"]["id"]) if path.name.startswith(name)]
    before = trainer.data_collator([articles[row]])
    content = path.read_bytes()
    path.write_bytes(content[: len(content) - 150])
    after = trainer.data_collator([articles[row]])
    # Images 1, 3 and 4 of the clean article, of which the second breaks.
    assert torch.equal(after["image_embeds"], before["image_embeds"][:, [0, 2]])
    assert torch.equal(after["marginals"], before["marginals"][:, [0, 2]])
    assert after["image_mask"].sum() == 2
    [[broken]] = after["broken_images"]
    assert broken[1:4] == [1, 3, str(path)]


def test_a_resumed_run_keeps_what_was_met_before(setup, tmp_path):
    first, second = (BrokenImage(name, 0, 1, f"/data/{name}.jpg", f"/data/{name}.jpg is cut") for name in "ab")

    class Args:
        output_dir, should_save, world_size = str(tmp_path), True, 1

    (tmp_path / "run.json").write_text(json.dumps({"started": "then"}))
    assert RecordBrokenImages(BrokenImages(), {}).record(Args) == {}
    assert json.loads((tmp_path / "run.json").read_text()) == {"started": "then"}
    RecordBrokenImages(BrokenImages([first]), {}).on_save(Args, None, None)
    counts = RecordBrokenImages(BrokenImages([second, first]), {}).record(Args)
    assert counts == {"broken_images": 2, "articles_made_text_only": 2}
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["dropped"] == counts and record["started"] == "then"
    assert [entry["damage"] for entry in record["broken_images"]] == ["the file is cut"] * 2
