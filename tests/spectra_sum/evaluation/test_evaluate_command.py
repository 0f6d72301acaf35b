"""`spectra-sum evaluate` from its arguments to its files."""

import json
from pathlib import Path

import datasets
import numpy as np
import pytest

from spectra_sum import cli
from spectra_sum.evaluation import run as evaluation_run
from spectra_sum.evaluation.curves import precision_over_k
from spectra_sum.evaluation.systems.baselines import lead, oracle
from spectra_sum.metrics import load_metric
from spectra_sum.metrics.dual_encoder import DualEncoder
from spectra_sum.selection.methods import SELECTION_METHODS
from spectra_sum.sentences import split_sentences
from tests import tiny
from tests.double_precision import EPSILON

FILES = {"system.json", "predictions.jsonl", "scores.jsonl", "metrics.json", "report.html", "run.json"}
SHORT = ("--max-length", 200, "--max-new-tokens", 6, "--batch-size", 4)
ROUGE = ("rouge1", "rouge2", "rougeL", "rougeLsum")
SIMILARITY = ("max_sim", "clip_score", "pcd_mean", "pcd_max", "pcd_mean_filtered", "pcd_max_filtered")


def evaluate(*arguments: object) -> int:
    return cli.main(["evaluate", *map(str, arguments)])


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def metrics(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def model_run(tmp_path_factory, model_folder, data_folder, encoder_folder) -> Path:
    """The evaluation of the tiny model with its own selection and all similarity scores."""
    folder = tmp_path_factory.mktemp("evaluation") / "model"
    similarity = ("--similarity-model", encoder_folder, "--relevance-threshold", -0.1)
    assert evaluate("--model", model_folder, "--data", data_folder, "--output", folder, *SHORT, *similarity) == 0
    return folder


def test_files_and_their_structure(model_run, model_folder, records):
    assert {path.name for path in model_run.iterdir()} == FILES | {"batches"}
    result = metrics(model_run)
    assert result["system"] == str(model_folder)
    assert result["source"] == {"kind": "model", "name": str(model_folder), "text_only": False}
    assert result["variant"] == {"fusion": "dvp", "objective": "multi", "vrp_context": "article"}
    assert result["selection"] == "vrp"
    data = result["data"]
    assert (data["name"], data["split"], data["articles"]) == ("small", "test", 7)
    assert set(result["not_computed"]) == {"bertscore_precision", "bertscore_recall", "bertscore_f1"}
    image_scores = {"image_precision", "hit_at_1", "recall", "coverage"}
    facts = {"text_facts", "visual_facts_trend", "visual_facts_setting"}
    assert set(result["scores"]) == {*ROUGE, *SIMILARITY, *image_scores, *facts, "mmae"}
    for score in result["scores"].values():
        assert score["low"] <= score["value"] <= score["high"]
    assert result["dropped"]["articles_without_gold"] == 2
    assert result["dropped"]["articles_without_images"] == 1
    assert result["dropped"]["images_not_scored"] == sum(max(0, len(row["images"]) - 4) for row in records)
    assert {"python", "torch", "transformers"} <= set(result["versions"])
    assert result["settings"]["seed"] == 0
    assert result["settings"]["max_new_tokens"] == 6
    assert result["settings"]["selection"]["count"] == 2
    assert set(json.loads((model_run / "run.json").read_text())) == {
        *("commit", "hardware", "processes", "seconds", "seconds_per_article")
    }
    assert set(result["text_statistics"]) == {"words", "repeats_itself", "novelty"}


def test_scores_are_those_of_the_metrics_on_the_written_predictions(model_run, records, encoder_folder):
    predictions, rows = lines(model_run / "predictions.jsonl"), lines(model_run / "scores.jsonl")
    assert [row["id"] for row in rows] == [row["id"] for row in predictions] == list(records["id"])
    result = metrics(model_run)["scores"]
    for name in set(result) - {"mmae"}:
        defined = [row[name] for row in rows if row[name] is not None]
        assert result[name]["value"] == pytest.approx(sum(defined) / len(defined))
        assert result[name]["articles"] == len(defined)
    expected = load_metric("image_precision").compute(
        predictions=[row["selected"] for row in predictions], references=list(records["gold_images"])
    )
    assert result["image_precision"]["value"] == pytest.approx(expected["image_precision"])
    encoder = DualEncoder(str(encoder_folder))
    for prediction, row, record in zip(predictions, rows, records, strict=True):
        chosen = [record["images"][index] for index in prediction["selected"]]
        sentences = split_sentences(prediction["summary"])
        if not record["images"]:
            assert row["max_sim"] is None
        elif not sentences:
            assert row["max_sim"] == 0.0
        else:
            cosines = encoder.embed_texts(sentences) @ encoder.embed_images(chosen).T
            assert row["max_sim"] == pytest.approx(float(cosines.max()), abs=16 * EPSILON)
    parts = [result[name]["value"] for name in ("rougeL", "max_sim", "image_precision")]
    expected = 1.978 + 1.641 * parts[0] + 0.854 * parts[1] + 0.806 * parts[2]
    assert result["mmae"]["value"] == pytest.approx(expected)


def test_comparison_of_selections(model_run):
    result = metrics(model_run)
    assert list(result["selections"]) == ["vrp", *SELECTION_METHODS]
    for name in ("image_precision", *SIMILARITY):
        assert result["selections"]["vrp"][name] == pytest.approx(result["scores"][name]["value"])


def test_report(model_run, records):
    page = (model_run / "report.html").read_text(encoding="utf-8")
    assert " on small (test)</title>" in page
    for record in records:
        assert record["title"] in page
    assert "The first 7 of 7 articles are shown." in page
    assert f"{metrics(model_run)['scores']['rougeL']['value']:.4f}" in page
    assert "bertscore_f1: not computed, no BERTScore model was named." in page
    assert "articles_without_gold: 2." in page
    for text in ("Ways to select images", "dpp-map", "Pairwise cosine distance (mean)", "Expected calibration error"):
        assert text.lower() in page.lower()
    probabilities = [row["probabilities"] for row in lines(model_run / "predictions.jsonl")]
    curve = precision_over_k(probabilities, list(records["gold_images"]), 1)
    assert f"{curve[0].precision:.3f}" in page
    assert "<script" not in page


def test_printed_scores(data_folder, tmp_path, capsys):
    assert evaluate("--baseline", "lead-3", "--data", data_folder, "--output", tmp_path / "o") == 0
    out, _ = capsys.readouterr()
    score = metrics(tmp_path / "o")["scores"]["rouge1"]
    assert out.startswith("lead-3 + random images on small (test, 7 articles)\n")
    words = ["rouge1", f"{score['value']:.4f}", f"[{score['low']:.4f},", f"{score['high']:.4f}]", "7", "articles"]
    assert words in [line.split() for line in out.split("\n")]
    assert "not computed: max_sim (no similarity model was named)" in out
    assert "counted: 2 articles_without_gold" in out
    assert out.endswith(f"results: {tmp_path / 'o'}\n")


def test_own_predictions_as_a_file_give_the_same_scores(model_run, data_folder, encoder_folder, tmp_path):
    file = model_run / "predictions.jsonl"
    shuffled = tmp_path / "peer.jsonl"
    shuffled.write_text("\n".join(reversed(file.read_text(encoding="utf-8").strip().split("\n"))), encoding="utf-8")
    arguments = ("--similarity-model", encoder_folder, "--relevance-threshold", -0.1)
    code = evaluate("--predictions", shuffled, "--data", data_folder, "--output", tmp_path / "o", *arguments)
    assert code == 0
    assert (tmp_path / "o" / "predictions.jsonl").read_text() == file.read_text()
    assert (tmp_path / "o" / "scores.jsonl").read_text() == (model_run / "scores.jsonl").read_text()
    given, own = metrics(tmp_path / "o"), metrics(model_run)
    assert given["scores"] == own["scores"]
    assert (given["system"], given["selection"], given["variant"]) == ("peer", "given", None)
    # A peer's number of images is unknown: the methods that it is compared to take three, the paper's number.
    assert given["settings"]["selection"]["count"] is None
    assert given["settings"]["compared_selections"]["count"] == 3


def test_run_again_generates_nothing(model_run, model_folder, data_folder, encoder_folder, monkeypatch):
    before = {name: (model_run / name).read_bytes() for name in FILES - {"run.json"}}
    monkeypatch.setattr("spectra_sum.evaluation.systems.resumable_prediction.predict_summaries", None)
    similarity = ("--similarity-model", encoder_folder, "--relevance-threshold", -0.1)
    assert evaluate("--model", model_folder, "--data", data_folder, "--output", model_run, *SHORT, *similarity) == 0
    assert {name: (model_run / name).read_bytes() for name in before} == before


def test_other_settings_in_the_same_folder(model_run, model_folder, data_folder, capsys):
    arguments = ("--model", model_folder, "--data", data_folder, "--output", model_run)
    end = "; remove the folder or choose another --output."
    for changed, place, names in (
        (("--num-beams", 2), model_run / "batches", "num_beams"),
        (("--limit", 3), model_run, "articles_sha256"),
        (("--name", "x", "--selection", "random"), model_run, "name, selection"),
    ):
        assert evaluate(*arguments, *SHORT, *changed) == 2
        error = capsys.readouterr().err.strip().split("\n")[-1]
        assert error == f"spectra-sum: error: {place} holds the results of other settings ({names}){end}"


def test_baselines(data_folder, records, tmp_path):
    for name, selection in (("lead-3", "random"), ("oracle", "gold")):
        assert evaluate("--baseline", name, "--data", data_folder, "--output", tmp_path / name) == 0
        predictions = lines(tmp_path / name / "predictions.jsonl")
        for row, record in zip(predictions, records, strict=True):
            expected = lead(record["article"]) if name == "lead-3" else oracle(record["article"], record["summary"])
            assert row["summary"] == expected
            if name == "lead-3":
                assert len(row["selected"]) == (3 if record["images"] else 0)
        result = metrics(tmp_path / name)
        assert result["selection"] == selection
        assert result["source"] == {"kind": "baseline", "name": name, "text_only": False}
    assert [row["selected"] for row in predictions] == list(records["gold_images"])
    assert result["scores"]["image_precision"]["value"] == result["scores"]["recall"]["value"] == 1.0
    lead_rouge = metrics(tmp_path / "lead-3")["scores"]["rouge1"]["value"]
    assert result["scores"]["rouge1"]["value"] > lead_rouge


def test_text_only_with_clip_images_and_limit(model_folder, data_folder, encoder_folder, records, tmp_path):
    arguments = ("--text-only", "--selection", "clip", "--selection-text", "reference", "--limit", 4)
    arguments = (*arguments, "--selection-count", 1, "--similarity-model", encoder_folder, "--name", "text only")
    code = evaluate("--model", model_folder, "--data", data_folder, "--output", tmp_path / "o", *SHORT, *arguments)
    assert code == 0
    result, predictions = metrics(tmp_path / "o"), lines(tmp_path / "o" / "predictions.jsonl")
    assert (result["system"], result["source"]["text_only"], result["data"]["articles"]) == ("text only", True, 4)
    assert "images_not_scored" not in result["dropped"]
    encoder = DualEncoder(str(encoder_folder))
    for row, record in zip(predictions, records.select(range(4)), strict=True):
        cosines = encoder.embed_images(record["images"]) @ encoder.embed_texts(record["summary"]).T
        assert row["selected"] == [int(cosines.max(axis=1).argmax())]
        assert row["probabilities"] == []
    assert result["settings"]["compared_selections"]["text"] == "reference"
    # The others select by the same text.
    assert result["selections"]["clip"]["max_sim"] == pytest.approx(result["scores"]["max_sim"]["value"])


def test_a_reference_in_one_paragraph_selects_by_its_sentences(
    model_run, data_folder, encoder_folder, records, tmp_path
):
    paragraphs = records.map(lambda record: {"summary": [" ".join(record["summary"])]})
    datasets.DatasetDict({"test": paragraphs}).save_to_disk(tmp_path / "paragraphs")
    written = {}
    for name, folder in (("lines", data_folder), ("paragraph", tmp_path / "paragraphs")):
        code = evaluate(
            *("--predictions", model_run / "predictions.jsonl", "--data", folder, "--output", tmp_path / name),
            *("--selection", "teacher", "--selection-text", "reference", "--similarity-model", encoder_folder),
        )
        assert code == 0
        written[name] = [
            (row["selected"], row["probabilities"]) for row in lines(tmp_path / name / "predictions.jsonl")
        ]
    assert written["paragraph"] == written["lines"]
    # Of a paragraph as one text the encoder would read 16 tokens, all of them of the first sentence.
    encoder = DualEncoder(str(encoder_folder))
    sentences = records[0]["summary"]
    first, *others = encoder.embed_texts(sentences) - encoder.embed_texts([" ".join(sentences)])
    assert np.abs(first).max() < 1e-6 and others and np.abs(others).max(axis=1).min() > 1e-3


@pytest.mark.parametrize("selection", ["teacher", "dpp-map", "mmr", "clip", "random", "gold", "given"])
def test_each_selection(model_run, data_folder, encoder_folder, records, tmp_path, selection):
    similarity = () if selection in ("random", "gold") else ("--similarity-model", encoder_folder)
    count = () if selection == "gold" else ("--selection-count", 1)
    code = evaluate(
        *("--predictions", model_run / "predictions.jsonl", "--data", data_folder, "--output", tmp_path / "o"),
        *("--selection", selection, *count, *similarity),
    )
    assert code == 0
    result, predictions = metrics(tmp_path / "o"), lines(tmp_path / "o" / "predictions.jsonl")
    assert result["selection"] == selection
    assert result["system"] == ("predictions" if selection == "given" else f"predictions + {selection} images")
    own = lines(model_run / "predictions.jsonl")
    assert [row["summary"] for row in predictions] == [row["summary"] for row in own]
    chosen = [row["selected"] for row in predictions]
    if selection == "gold":
        assert chosen == list(records["gold_images"])
    elif selection == "given":
        assert chosen == [row["selected"][:1] for row in own]
    else:
        assert [len(indices) for indices in chosen] == [min(1, len(record["images"])) for record in records]
    scored = [len(row["probabilities"]) for row in predictions]
    images = [len(record["images"]) for record in records]
    expected = {"teacher": images, "given": [min(4, count) for count in images]}
    assert scored == expected.get(selection, [0] * 7)
    if similarity and selection != "given":
        # The comparison draws and selects as the evaluation itself does.
        again = result["selections"][selection]
        assert again["max_sim"] == pytest.approx(result["scores"]["max_sim"]["value"])


def test_bertscore(data_folder, bert_folder, tmp_path):
    arguments = ("--baseline", "lead-3", "--data", data_folder, "--output", tmp_path / "o")
    assert evaluate(*arguments, "--bertscore-model", bert_folder, "--bertscore-layers", 1) == 0
    result = metrics(tmp_path / "o")
    assert result["scores"]["bertscore_f1"]["articles"] == 7
    settings = result["settings"]["bertscore"]
    assert (settings["model"], settings["num_layers"]) == (str(bert_folder), 1)
    assert "_L1_" in settings["hashcode"]


def test_wrong_bertscore_model_is_told_before_generation(model_folder, data_folder, tmp_path, capsys):
    arguments = ("--model", model_folder, "--data", data_folder, "--output", tmp_path / "o", *SHORT)
    assert evaluate(*arguments, "--bertscore-model", tmp_path) == 2
    assert capsys.readouterr().err.strip().split("\n")[-1].startswith("spectra-sum: error: ")
    assert not (tmp_path / "o" / "batches").exists()


def test_gold_images_leave_articles_without_gold_out(data_folder, encoder_folder, records, tmp_path):
    arguments = ("--baseline", "oracle", "--data", data_folder, "--output", tmp_path / "o")
    assert evaluate(*arguments, "--similarity-model", encoder_folder) == 0
    with_gold = sum(bool(gold) for gold in records["gold_images"])
    scores = metrics(tmp_path / "o")["scores"]
    assert {scores[name]["articles"] for name in ("max_sim", "clip_score", "image_precision")} == {with_gold}
    compared = metrics(tmp_path / "o")["selections"]["gold"]
    assert compared["max_sim"] == pytest.approx(scores["max_sim"]["value"])


def test_untrained_predictor_is_told(data_folder, model_run, tmp_path, capsys):
    folder = tmp_path / "model"
    tiny.tiny_model(gate=0.8, align_weight=0.0, distill_weight=0.0).save_pretrained(folder)
    tiny.tiny_processor().save_pretrained(folder)
    arguments = ("--model", folder, "--data", data_folder, "--output", tmp_path / "o", *SHORT, "--limit", 1)
    assert evaluate(*arguments) == 0
    assert "note: the model's relevance predictor was not trained" in capsys.readouterr().out
    assert metrics(tmp_path / "o")["variant"]["objective"] == "lm"
    assert metrics(model_run)["notes"] == []


def test_data_name(data_folder, tmp_path):
    arguments = ("--baseline", "lead-3", "--data", data_folder, "--output", tmp_path / "o", "--data-name", "MSMO")
    assert evaluate(*arguments) == 0
    assert metrics(tmp_path / "o")["data"]["name"] == "MSMO"


@pytest.fixture
def no_evaluation(monkeypatch):
    """Fails the test when a wrong argument is found only after the work has begun."""

    def refuse(*args):
        raise AssertionError("the evaluation began before its arguments were checked")

    monkeypatch.setattr(evaluation_run, "evaluate_system", refuse)


MODEL, LEAD, GIVEN = ("--model", "MODEL"), ("--baseline", "lead-3"), ("--predictions", "PREDICTIONS")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--model", "nowhere"), "nowhere: there is no such folder; pass a model's folder, a .gguf file, a Hub id"),
        (("--model", "ENCODER"), "'siglip' (SiglipModel) compares images and texts and writes none"),
        (("--predictions", "none.jsonl"), "none.jsonl: there is no such file; pass a .jsonl file of predictions."),
        ((*LEAD, "--text-only"), "--text-only withholds images from a model; leave it out here."),
        ((*LEAD, "--selection", "vrp"), "--selection vrp is a model's own predictor; choose another --selection"),
        ((*MODEL, "--text-only"), "this model sees no images or has no trained predictor; choose --selection clip"),
        ((*MODEL, "--selection", "given"), "--selection given takes what a file of predictions holds; pass"),
        ((*GIVEN, "--selection", "teacher"), "--selection teacher compares images with text; pass --similarity-model"),
        ((*LEAD, "--selection", "gold", "--selection-count", "1"), "--selection gold takes all gold images; leave"),
        ((*MODEL, "--bertscore-layers", "2"), "--bertscore-layers belongs to --bertscore-model; pass it, too."),
        ((*MODEL, "--relevance-threshold", "nan"), "--relevance-threshold nan: it is a cosine in [-1, 1]."),
        ((*MODEL, "--output", "PREDICTIONS"), "this is a file; name a folder."),
        (
            (*LEAD, "--data", "nowhere"),
            "nowhere: there is no such file or folder; pass 'closed_world', a file (.jsonl",
        ),
        ((*LEAD, "--split", "train"), "has no split 'train'; it has test."),
        ((*LEAD, "--sigma", "0"), "sigma > 0, kappa >= 1 and epsilon >= 0, got beta=20.0, sigma=0.0"),
        ((*LEAD, "--mmr-trade-off", "2"), "mmr_trade_off must be in [0, 1], got 2.0"),
    ],
)
def test_wrong_arguments(
    arguments, message, model_folder, encoder_folder, data_folder, model_run, tmp_path, capsys, no_evaluation
):
    places = {"MODEL": model_folder, "ENCODER": encoder_folder, "PREDICTIONS": model_run / "predictions.jsonl"}
    arguments = [places.get(argument, argument) for argument in arguments]
    if "--data" not in arguments:
        arguments += ["--data", data_folder]
    if "--output" not in arguments:
        arguments += ["--output", tmp_path / "o"]
    assert evaluate(*arguments) == 2
    [line] = capsys.readouterr().err.strip().split("\n")
    assert line.startswith("spectra-sum: error: ")
    assert message in line
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("option", ["--limit", "--batch-size", "--seed"])
def test_numbers_that_are_none(option, capsys):
    with pytest.raises(SystemExit):
        evaluate("--baseline", "lead-3", "--data", "closed_world", "--output", "o", option, "-1")
    assert f"argument {option}: -1 is" in capsys.readouterr().err


def test_wrong_predictions_are_one_clear_line(data_folder, tmp_path, capsys):
    (tmp_path / "p.jsonl").write_text('{"id": "x", "summary": "", "selected": []}\n')
    assert evaluate("--predictions", tmp_path / "p.jsonl", "--data", data_folder, "--output", tmp_path / "o") == 2
    [line] = capsys.readouterr().err.strip().split("\n")
    assert line.startswith(f"spectra-sum: error: {tmp_path / 'p.jsonl'}, line 1: no article has the id 'x'")
    assert not (tmp_path / "o" / "metrics.json").exists()


def test_more_images_than_the_predictor_selects(model_folder, data_folder, tmp_path, capsys):
    arguments = ("--model", model_folder, "--data", data_folder, "--output", tmp_path / "o", *SHORT)
    assert evaluate(*arguments, "--selection-count", 3) == 2
    error = capsys.readouterr().err.strip().split("\n")[-1]
    assert error.endswith("this model's predictor selects at most 2 images; lower --selection-count.")
    assert not (tmp_path / "o" / "batches").exists()


def test_similarity_model_that_is_none(data_folder, model_folder, tmp_path, capsys):
    arguments = ("--baseline", "lead-3", "--data", data_folder, "--output", tmp_path / "o")
    assert evaluate(*arguments, "--similarity-model", model_folder) == 2
    error = capsys.readouterr().err.strip().split("\n")[-1]
    assert f"{model_folder}: a model of type 'spectra_sum' has no text and image tower" in error
