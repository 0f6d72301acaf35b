"""`spectra-sum evaluate --task`: answers to instructions, their scores against other code, and one line for what does not fit."""

import json

import datasets
import pytest
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU

from spectra_sum import cli
from spectra_sum.evaluation.choices import NO_SELECTION
from spectra_sum.evaluation.scores import score_articles, score_predictions
from spectra_sum.metrics.cider.cider import words
from spectra_sum.tables import read_evaluation
from spectra_sum.tasks.task import GROUP_CAPTIONING, INSTRUCTION_PROMPT, SUMMARIZATION
from tests import tiny
from tests.tasks import sam_records, write_sam
from tests.tiny_llava_onevision import save_llava_onevision_folder, save_siglip_folder

ANSWERS = [
    "Both pictures show a red boat, number 0.",
    "A red boat is in both pictures.",
    "Two cars.",
    "Both pictures show a red boat, number 4.",
    "",
    "There is a boat in the two pictures, and number 5.",
]
SCORES = {"rouge1", "rouge2", "rougeL", "rougeLsum", "cider", "bleu4"}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def data(tmp_path):
    return write_sam(tmp_path / "data", sam_records())


@pytest.fixture
def predictions(tmp_path):
    file = tmp_path / "answers.jsonl"
    rows = [{"id": str(100 + number), "summary": answer} for number, answer in enumerate(ANSWERS)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def evaluate(*arguments, task="group-captioning"):
    return cli.main(["evaluate", "--task", task, *map(str, arguments)])


def test_scores_of_a_file_of_answers(data, predictions, tmp_path, capsys):
    """The lines need not name images; the values are those of rouge_score, pycocoevalcap and sacrebleu."""
    output = tmp_path / "scores"
    assert evaluate("--predictions", predictions, "--data", data, "--output", output) == 0
    out = capsys.readouterr().out
    metrics = json.loads((output / "metrics.json").read_text())
    assert metrics["task"] == "group-captioning" and metrics["selection"] == NO_SELECTION
    assert set(metrics["scores"]) == SCORES and set(metrics["text_statistics"]) == {"words", "repeats_itself"}
    assert set(metrics["not_computed"]) == {"bertscore_precision", "bertscore_recall", "bertscore_f1"}
    assert metrics["selections"] == {} and metrics["dropped"]["empty_predictions"] == 1
    for score in metrics["scores"].values():
        assert score["low"] <= score["value"] <= score["high"]
    references = [record["output"] for record in sam_records()]
    rouge = RougeScorer(["rougeL"], use_stemmer=True)
    expected = [rouge.score(one, other)["rougeL"].fmeasure for one, other in zip(references, ANSWERS, strict=True)]
    rows = [json.loads(line) for line in (output / "scores.jsonl").read_text().splitlines()]
    assert [row["rougeL"] for row in rows] == pytest.approx(expected)
    bleu = BLEU().corpus_score(ANSWERS, [references])
    assert metrics["scores"]["bleu4"]["value"] == pytest.approx(bleu.score / 100, abs=1e-12)
    assert metrics["settings"]["bleu"].startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert f"bleu4                    {bleu.score / 100:8.4f}" in out
    assert [row["bleu_tokens"] for row in rows] == [10, 8, 3, 10, 0, 13]
    scorers = pytest.importorskip("pycocoevalcap.cider.cider_scorer", reason="pycocoevalcap is not installed")
    theirs = scorers.CiderScorer(n=4, sigma=6.0)
    for answer, reference in zip(ANSWERS, references, strict=True):
        theirs += (" ".join(words(answer)), [" ".join(words(reference))])
    mean, single = theirs.compute_score()
    assert [row["cider"] for row in rows] == pytest.approx(single.tolist(), abs=1e-12)
    assert metrics["scores"]["cider"]["value"] == pytest.approx(mean, abs=1e-12)
    report = (output / "report.html").read_text()
    assert "bleu4" in report and "Images, none selected" in report and "image_precision" not in report
    read = read_evaluation(output)
    assert (read.task, read.bleu) == ("group-captioning", metrics["settings"]["bleu"])


def test_a_model_answers_and_a_summarizer_is_told_apart(data, tmp_path, model_folder):
    """A model that was trained for summaries keeps its prompt, which is remarked."""
    records = sam_records(2)
    data = write_sam(tmp_path / "few", records)
    trained = tmp_path / "answering"
    tiny.tiny_model(gate=0.8, align_weight=0.0, distill_weight=0.0).save_pretrained(trained)
    tiny.tiny_processor(prompt_template=INSTRUCTION_PROMPT).save_pretrained(trained)
    short = ("--data", data, "--max-length", 200, "--max-new-tokens", 6, "--batch-size", 2)
    notes = {}
    for model in (trained, model_folder):
        output = tmp_path / f"scores-{model.name}"
        assert evaluate("--model", model, *short, "--output", output) == 0
        metrics = json.loads((output / "metrics.json").read_text())
        assert set(metrics["scores"]) == SCORES and metrics["settings"]["max_new_tokens"] == 6
        rows = [json.loads(line) for line in (output / "predictions.jsonl").read_text().splitlines()]
        assert [(row["selected"], row["probabilities"]) for row in rows] == [([], [])] * 2
        notes[model] = metrics["notes"]
    assert notes[trained] == []
    (note,) = notes[model_folder]
    assert (
        "the model's own prompt stands around the instruction" in note and "not trained for group-captioning" in note
    )


@pytest.mark.parametrize("kind", ["causal", "llava-onevision"])
def test_pretrained_models_answer_too(data, tmp_path, kind):
    """By the instruction alone, and LLaVA-OneVision by its images, too."""
    folder = tmp_path / "model"
    if kind == "causal":
        tiny.save_text_folder(folder)
    else:
        save_llava_onevision_folder(folder, save_siglip_folder(tmp_path / "siglip"))
        (data.parent / "photos" / "1_a.png").unlink()
    output = tmp_path / "scores"
    short = ("--limit", 2, "--max-length", 100, "--max-new-tokens", 4)
    assert evaluate("--model", folder, "--data", data, *short, "--output", output) == 0
    metrics = json.loads((output / "metrics.json").read_text())
    assert metrics["settings"]["text_only"] is (kind == "causal") and metrics["weights"] is None
    note, *others = metrics["notes"]
    assert note.startswith("a pretrained model that was not trained for group-captioning here")
    # A tower without embeddings ranks no image, and none is asked of it; a missing file is counted.
    assert len(others) == metrics["dropped"].get("broken_images", 0) == (kind == "llava-onevision")
    assert ("sees no images" in note) == (kind == "causal")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--baseline", "lead-3"), "--baseline takes sentences of an article, and group-captioning has none"),
        ((), "--task group-captioning: the default model writes summaries; pass --model or --predictions"),
        (("--model", "x", "--selection", "random"), "--selection is about selected images"),
        (("--model", "x", "--selection-count", "2"), "--selection-count is about selected images"),
        (("--model", "x", "--similarity-model", "y"), "--similarity-model is about selected images"),
        (("--predictions", "FILE", "--columns", "title=a"), "a record of group-captioning has no 'title'"),
        (("--predictions", "FILE", "--length", "short"), "--length does nothing for this system"),
    ],
)
def test_what_does_not_go_with_a_task(data, predictions, tmp_path, capsys, options, message):
    options = [predictions if option == "FILE" else option for option in options]
    assert evaluate(*options, "--data", data, "--output", tmp_path / "scores") == 2
    err = capsys.readouterr().err.strip()
    assert message in err and "\n" not in err


def test_the_closed_world_and_other_tasks_in_a_folder_are_refused(data, predictions, tmp_path, capsys):
    assert evaluate("--predictions", predictions, "--data", "closed_world", "--output", tmp_path / "a") == 2
    assert "closed_world holds articles" in capsys.readouterr().err
    assert evaluate("--predictions", predictions, "--data", data, "--output", tmp_path / "b") == 0
    story = evaluate("--predictions", predictions, "--data", data, "--output", tmp_path / "b", task="storytelling")
    assert story == 2 and "holds the results of other settings" in capsys.readouterr().err


def test_one_record_has_no_cider_and_summaries_have_none():
    """The IDF of one reference alone is 0; summaries are scored as ever."""
    records = datasets.Dataset.from_dict(
        {"summary": [["A red boat sails."]], "gold_images": [[0]], "captions": [["x"]]}
    )
    predicted = [{"summary": "A red boat sails.", "selected": [0], "probabilities": [0.9]}]
    answers = score_articles(predicted, records, task=GROUP_CAPTIONING)
    assert answers.not_computed["cider"] == "the IDF of one reference alone is 0" and "cider" not in answers.values
    assert score_predictions(predicted, records, GROUP_CAPTIONING) == {
        **dict.fromkeys(("rouge1", "rouge2", "rougeL", "rougeLsum"), 1.0),
        "bleu4": pytest.approx(1.0, abs=1e-12),
    }
    summaries = score_articles(predicted, records)
    assert summaries.means()["image_precision"] == 1.0 and not {"cider", "bleu4"} & summaries.means().keys()
    assert score_articles(predicted, records, task=SUMMARIZATION).means() == summaries.means()
