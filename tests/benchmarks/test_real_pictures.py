"""The benchmark of gates on real pictures: its records and pairs, its nats against other sums, and runs that are kept."""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks import real_pictures
from benchmarks.real_pictures import (
    ARTICLE,
    PAPER_FUSIONS,
    PICTURES,
    described,
    main,
    nats,
    save_plain_text_model,
    with_others,
    write_figures,
)
from spectra_sum.models.loading import load_model
from spectra_sum.own_data.loading import load_split
from tests.tiny import save_text_folder
from tests.trainer.dual_encoder.setup import write_split
from tests.trainer.training_setup import save_setup
from trainer.command_line.parsing import parse_arguments

SETTINGS = {
    "text_backbone": None,
    "vision_backbone": None,
    "max_images": 1,
    "max_candidate_images": 1,
    "max_selected_images": 1,
    "align_weight": 0.0,
    "distill_weight": 0.0,
    "freeze_language_model": None,
    "predict_with_generate": False,
    "final_evaluation": "none",
    "dataset": None,
    # Wide open from the start, so that pictures make a difference after two steps.
    "gate_init": 1.0,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for split in ("train", "valid", "test"):
        write_split(folder, split)
    return folder


@pytest.fixture(scope="module")
def backbones(tmp_path_factory):
    return save_setup(tmp_path_factory.mktemp("setup"))


@pytest.fixture(scope="module")
def arguments(data, backbones, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    save_setup(folder, {**SETTINGS, "vision_backbone": str(backbones / "vision")})
    options = {"data": data, "output": folder / "runs", "config": folder / "settings.yaml", "seeds": 0, "figures": 6}
    options["text-backbone"] = backbones / "text"
    return [word for name, value in options.items() for word in (f"--{name}", str(value))]


@pytest.fixture(scope="module")
def result(arguments, tmp_path_factory):
    file = tmp_path_factory.mktemp("result") / "result.json"
    main([*arguments, "--result", str(file)])
    return json.loads(file.read_text())


def test_a_record_is_a_figure_with_its_text_and_says_nothing_else(data, tmp_path):
    write_figures(data, tmp_path)
    records = load_split(str(tmp_path), "train")
    assert len(records) == 8 and set(records["article"]) == {ARTICLE}
    assert records[0]["summary"] == ["It shows red."] and len(records[0]["images"]) == 1
    # Red and green are JPEGs.
    assert records[0]["images"][0].convert("RGB").getpixel((20, 15))[0] > 200
    assert records[1]["images"][0].convert("RGB").getpixel((20, 15))[1] > 100


def test_the_language_model_is_the_same_without_its_chat_template(tmp_path):
    chat = save_text_folder(tmp_path / "chat", chat=True)
    assert AutoTokenizer.from_pretrained(chat).chat_template
    plain = save_plain_text_model(str(chat), tmp_path / "plain")
    assert AutoTokenizer.from_pretrained(plain).chat_template is None
    inputs = AutoTokenizer.from_pretrained(chat)("Rain over the harbour.", return_tensors="pt")
    first, second = (AutoModelForCausalLM.from_pretrained(folder)(**inputs).logits for folder in (chat, plain))
    assert torch.equal(first, second)


def test_another_figure_is_of_the_same_book_and_has_another_text(data):
    figures = described(data, "test")
    pairs = with_others(figures, 5)
    assert len(pairs) == 5 and pairs == with_others(figures, 5)
    for figure, other in pairs:
        assert figure.book == other.book and figure.alt != other.alt
    assert with_others([figure._replace(alt="It is red.") for figure in figures], 5) == []


def test_nats_are_the_model_s_own_loss_and_without_a_picture_those_of_the_language_model(
    result, arguments, backbones, data
):
    pairs = with_others(described(data, "test"), 6)
    language_model = AutoModelForCausalLM.from_pretrained(backbones / "text").eval()
    for fusion in PAPER_FUSIONS:
        run = f"{arguments[arguments.index('--output') + 1]}/{fusion}-0"
        loaded = load_model(run)
        values = json.loads(real_pictures.Path(run, real_pictures.NATS).read_text())["nats"]
        for place, (figure, other) in enumerate(pairs):
            files = {"right": figure.image, "other": other.image, "none": None}
            for name in PICTURES:
                inputs = loaded.processor(
                    text=ARTICLE, title="", images=[str(files[name])] if files[name] else [], summary=figure.alt
                )
                with torch.no_grad():
                    loss = loaded.model.eval()(**inputs).loss.item()
                assert values[name][place] == pytest.approx(loss, rel=1e-4), (fusion, name)
            if fusion != "concat":
                with torch.no_grad():
                    loss = language_model(**{key: inputs[key] for key in ("input_ids", "labels")}).loss.item()
                assert values["none"][place] == pytest.approx(loss, rel=1e-4)
        assert values["right"] != values["other"]


def test_the_result_has_every_run_and_finished_ones_are_kept(result, arguments, monkeypatch, capsys, tmp_path):
    assert [(run["fusion"], run["seed"], run["steps"]) for run in result["runs"]] == [
        (name, 0, 2) for name in PAPER_FUSIONS
    ]
    for run in result["runs"]:
        means = run["nats"]
        assert run["other - right"]["mean"] == pytest.approx(means["other"] - means["right"])
        assert run["none - right"]["mean"] == pytest.approx(means["none"] - means["right"])
    monkeypatch.setattr(real_pictures, "train", None)
    kept = real_pictures.load_model
    monkeypatch.setattr(real_pictures, "load_model", None)
    main(arguments)
    table = capsys.readouterr().out
    assert "| sampler | 0 | 2 | " in table and "of 3 runs" in table
    # Runs that an earlier call measured stay, and their order is no matter.
    file = tmp_path / "result.json"
    for fusions in (("dvp", "concat"), ("sampler",)):
        main([*arguments, "--fusions", *fusions, "--result", str(file)])
    assert json.loads(file.read_text())["runs"] == result["runs"]
    monkeypatch.setattr(real_pictures, "load_model", kept)
    main([*arguments, "--fusions", "dvp", "--figures", "3", "--result", str(file)])
    assert [run["fusion"] for run in json.loads(file.read_text())["runs"]] == ["dvp"]


def test_other_figures_are_measured_anew(result, arguments, data, tmp_path):
    run = real_pictures.Path(arguments[arguments.index("--output") + 1]) / "sampler-0"
    kept = (run / real_pictures.NATS).read_text()
    values = nats(run, with_others(described(data, "test"), 3), 2)
    assert len(values["right"]) == 3
    (run / real_pictures.NATS).write_text(kept)


@pytest.mark.parametrize("fusion", real_pictures.FUSIONS)
def test_every_fusion_is_one_of_the_config(fusion):
    argv = ["--config", str(real_pictures.CONFIG), "--dataset", "closed_world", *real_pictures.FUSIONS[fusion]]
    _, architecture, _, _ = parse_arguments(argv)
    assert architecture.fusion == ("sampler" if fusion in ("parameter-free", "kmeans") else fusion.split("-")[0])
