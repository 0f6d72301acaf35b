"""The benchmark of what pictures add to summaries: its pairs, its scores against other sums, and what is kept."""

import dataclasses
import json

import pytest
import torch
from PIL import ImageColor

from benchmarks import picture_summaries
from benchmarks.picture_summaries import NONE, OTHER, RIGHT, main, parse_options, trainings, with_pictures
from modeling_spectra import SpectraSumConfig
from spectra_sum.own_data.loading import load_split
from tests.hashing_encoder import HashingEncoder
from tests.tiny import tiny_model, tiny_processor
from tests.trainer.dual_encoder.setup import COLOURS, write_split
from tests.trainer.training_setup import SETTINGS as SETUP
from tests.trainer.training_setup import save_setup
from trainer.command_line.parsing import parse_arguments
from trainer.dual_encoder.figures import read_figures

FILES = ("right_picture.jsonl", "another_picture.jsonl", "no_picture.jsonl")
# The models' own, which come from the gates' runs.
ARCHITECTURE = set(SETUP) & {field.name for field in dataclasses.fields(SpectraSumConfig)}
SETTINGS = {
    **dict.fromkeys(("text_backbone", "vision_backbone", "dataset", "freeze_language_model", *ARCHITECTURE)),
    "long_documents": "select",
    "extract_words": 5,
    "align_weight": 0.0,
    "distill_weight": 0.0,
    "predict_with_generate": False,
    "final_evaluation": "none",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for split in ("train", "valid", "test"):
        write_split(folder, split)
    return folder


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """The result of two trainings, and what made it."""
    root = tmp_path_factory.mktemp("summaries")
    save_setup(root, SETTINGS)
    gates = []
    for fusion in ("sampler", "dvp"):
        gates.append(root / f"{fusion}-0")
        torch.manual_seed(0)
        model = tiny_model(fusion, gate=0.7, max_images=1, max_candidate_images=1, max_selected_images=1)
        model.save_pretrained(gates[-1])
        tiny_processor().save_pretrained(gates[-1])
    argv = ["--data", str(data), "--gates", *map(str, gates), "--output", str(root / "runs")]
    argv += ["--config", str(root / "settings.yaml"), "--result", str(root / "result.json")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(picture_summaries, "load_text_encoder", HashingEncoder)
        patch.setattr("trainer.features.extracts.load_text_encoder", lambda name: HashingEncoder())
        main(argv)
    return root, argv, json.loads((root / "result.json").read_text())


def test_the_other_picture_is_the_first_of_another_section_of_the_book(data):
    records, figures = load_split(str(data), "test"), read_figures(data, "test")
    documents = with_pictures(records, figures)
    # Of the four sections, the first and the third are of one book, the second and the fourth of the other one.
    partners = {0: 2, 1: 3, 2: 0, 3: 1}
    assert [one.id for one in documents[RIGHT]] == list(records["id"])
    for place, partner in partners.items():
        for kind, section in ((RIGHT, place), (OTHER, partner)):
            (image,) = documents[kind][place].images
            color = ImageColor.getrgb(COLOURS[2 * section % len(COLOURS)])
            # They are JPEGs.
            assert image.image.getpixel((20, 15)) == pytest.approx(color, abs=12)
        assert documents[NONE][place].images == []
    alone = [figure for figure in figures if figure.section != records["id"][2]]
    assert [one.id for one in with_pictures(records, alone)[RIGHT]] == [records["id"][1], records["id"][3]]


def test_every_kind_is_written_by_every_run(data, finished):
    root, _, result = finished
    assert list(result["runs"]) == ["sampler-0", "dvp-0"]
    for name, run in result["runs"].items():
        assert (run["steps"], run["sections"]) == (2, 4)
        texts = {}
        for kind, file in zip((RIGHT, OTHER, NONE), FILES, strict=True):
            entries = [json.loads(line) for line in (root / "runs" / name / file).read_text().splitlines()]
            assert [entry["id"] for entry in entries] == list(load_split(str(data), "test")["id"])
            texts[kind] = [entry["summary"] for entry in entries]
        assert texts[RIGHT] != texts[OTHER] and texts[RIGHT] != texts[NONE]


def test_finished_summaries_are_kept_and_scored(finished, monkeypatch, capsys):
    root, argv, _ = finished
    # The references say "About it."
    texts = {FILES[0]: "About it and more.", FILES[1]: "About that and more.", FILES[2]: "Nothing is said here."}
    for file, text in texts.items():
        place = root / "runs" / "dvp-0" / file
        entries = [json.loads(line) | {"summary": text} for line in place.read_text().splitlines()]
        place.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    monkeypatch.setattr(picture_summaries, "train", None)
    monkeypatch.setattr(picture_summaries, "load_text_encoder", HashingEncoder)
    words = []
    summarizer = picture_summaries.Summarizer
    monkeypatch.setattr(
        picture_summaries,
        "Summarizer",
        lambda loaded, *more: words.append(loaded.extract_words) or summarizer(loaded, *more),
    )
    main(argv)
    # What is read is as long as in training.
    assert words == [5, 5]
    assert "Gates of dvp-0, 2 steps more. The first 4 test sections:" in capsys.readouterr().out
    run = json.loads((root / "result.json").read_text())["runs"]["dvp-0"]
    values = {name: system["scores"]["rouge1"]["value"] for name, system in run["systems"].items()}
    # Two of four words and both of the reference's; one of four and one of two.
    assert values == pytest.approx({RIGHT: 2 / 3, OTHER: 1 / 3, NONE: 0.0})
    differences = {name: scores["rouge1"]["mean"] for name, scores in run["differences"].items()}
    assert differences == pytest.approx({f"{RIGHT} - {OTHER}": 1 / 3, f"{RIGHT} - {NONE}": 2 / 3})


def test_towers_are_trained_by_the_config_of_adapters(tmp_path):
    options = parse_options(["--data", "DATA", "--output", str(tmp_path), "--towers", "none", "last-2"])
    runs = trainings(options)
    assert list(runs) == ["tower none", "tower last-2"]
    for mode, changes in zip(("none", "last-2"), runs.values(), strict=True):
        argv = ["--config", str(options.config), "--dataset", "closed_world", *changes]
        data_args, architecture, args, _ = parse_arguments(argv)
        assert args.train_vision_tower == mode and architecture.fusion == "adapter"
        assert architecture.captions == "none" and data_args.long_documents == "select"
    with pytest.raises(SystemExit):
        parse_options(["--data", "DATA", "--output", str(tmp_path), "--towers", "none", "--gates", "run"])
