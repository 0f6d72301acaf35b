"""The model card: its values are those of the fact files, and nothing else of the user's machine is in it."""

import copy
import getpass
import re
import socket
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import HfApi, ModelCard, ModelCardData
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
from huggingface_hub.hf_api import ModelInfo
from huggingface_hub.repocard_data import eval_results_to_model_index, model_index_to_eval_results
from markdown_it import MarkdownIt

from hub_upload.cards.model import backbone_licenses, model_card, training_curve
from hub_upload.cards.run_facts import read_run_facts
from hub_upload.errors import HubError
from tests.hub_upload.facts import CONFIG, METRICS, RUN, STATE, evaluation_metrics, write_evaluation, write_run

REPO = "news/spectra-small"
SIGLIP, SMOLLM2 = "google/siglip-base-patch16-224", "HuggingFaceTB/SmolLM2-135M-Instruct"


def make_card(
    tmp_path: Path, *, evaluations=(), config=CONFIG, kind="model", run=RUN, more=None, **options
) -> ModelCard:
    folder = write_run(tmp_path / "run", run=run, config=config, **(more or {}))
    return model_card(read_run_facts(folder, evaluations), config, REPO, kind, **options)


def table_rows(card: ModelCard, heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, as a Markdown parser reads them."""
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(card.text)
    start = next(i for i, token in enumerate(tokens) if token.type == "inline" and token.content == heading)
    rows: list[list[str]] = []
    for token in tokens[start:]:
        if token.type == "tr_open":
            rows.append([])
        elif token.type == "inline" and rows:
            rows[-1].append("".join(child.content for child in token.children))
        elif token.type == "table_close":
            break
    return rows


def without(record: dict, *path: str) -> dict:
    record = copy.deepcopy(record)
    place = record
    for key in path[:-1]:
        place = place[key]
    del place[path[-1]]
    return record


def test_the_metadata_as_the_hub_s_client_reads_them(tmp_path):
    card = make_card(tmp_path, licenses={SIGLIP: "apache-2.0"}, dataset_id="news/msmo-small")
    path = tmp_path / "README.md"
    card.save(path)
    data = ModelCard.load(path).data
    expected = {"language": "en", "library_name": "transformers", "pipeline_tag": "image-text-to-text"}
    assert expected.items() <= data.to_dict().items()
    assert {"spectra-sum", "multimodal-summarization", "custom_code"} <= set(data.tags)
    assert data.base_model == [SMOLLM2, SIGLIP]
    assert data.base_model_relation == "finetune"
    assert (data.license, data.datasets) == ("apache-2.0", ["news/msmo-small"])
    assert data.metrics == ["rouge", "image_precision", "loss"]
    values = {result.metric_name: result.metric_value for result in data.eval_results}
    assert values == {"ROUGE-1": 0.4321, "image precision (IP)": 0.75, "loss": 1.25}
    first = data.eval_results[0]
    assert (first.dataset_name, first.dataset_split) == ("msmo_small (test, 48 articles)", "test")
    assert (first.dataset_type, first.dataset_args) == ("news/msmo-small", {"articles": 48})
    assert data.model_name == "spectra-small"


def test_the_run_s_own_scores_say_of_how_many_articles_they_are_or_that_there_are_none(tmp_path):
    card = make_card(tmp_path, more={"metrics": {**METRICS, "test_samples": 12}})
    assert "at the end of the run on the test split (the first 12 of 48 articles) of its data." in card.text
    assert {result.dataset_args["articles"] for result in card.data.eval_results} == {12}
    card = make_card(tmp_path, more={"metrics": METRICS})
    assert "on the test split (48 articles) of its data." in card.text
    card = make_card(tmp_path / "none", more={"metrics": None})
    assert "## Evaluation\n\nNo evaluation of these weights is recorded." in card.text


def test_the_model_index_round_trips(tmp_path):
    evaluation = write_evaluation(tmp_path / "evaluation")
    card = make_card(tmp_path, evaluations=[evaluation])
    index = card.data.to_dict()["model-index"]
    name, results = model_index_to_eval_results(index)
    assert eval_results_to_model_index(name, results) == index
    found = {result.metric_name: (result.metric_value, result.metric_args) for result in results}
    # The run's own scores give way to those of the evaluation, which have intervals.
    assert found == {
        "ROUGE-1": (0.375, {"articles": 2, "low": 0.25, "high": 0.5}),
        "ROUGE-2": (0.125, {"articles": 2}),
        "image precision (IP)": (0.625, {"articles": 1, "low": 0.5, "high": 0.75}),
        "MaxSim": (0.3125, {"articles": 2, "low": 0.3, "high": 0.4}),
    }
    assert {(result.dataset_name, result.dataset_split) for result in results} == {
        ("newsroom (test, 2 articles)", "test")
    }
    assert ModelCard(str(card)).data.to_dict() == card.data.to_dict()


def test_training_facts_and_losses_are_in_their_tables(tmp_path):
    card = make_card(tmp_path)
    rows = dict(table_rows(card, "Training")[1:])
    assert rows["data"] == "msmo_small"
    assert rows["articles"] == "5,120 train, 64 validation, 48 test"
    assert rows["losses"] == "language modelling + 1.0 × distillation"
    assert rows["optimizer steps"] == "20"
    # 4 per device, 3 accumulated, 2 processes.
    assert rows["articles per step"] == "24"
    assert (rows["optimizer"], rows["learning rate"], rows["schedule"]) == ("adafactor", "0.00037", "cosine")
    assert (rows["mixed precision"], rows["text tokens, at most"], rows["seed"]) == ("bf16", "768", "17")
    assert rows["hardware"] == "Example GPU 40GB, 2 processes"
    assert (rows["training time"], rows["started"]) == ("1.2 hours", "2031-05-06")
    assert rows["software"] == "python 3.12.1, transformers 5.24.7"
    assert table_rows(card, "Training losses") == [
        ["step", "total", "language modelling", "distillation"],
        ["10", "2.5000", "2.2500", "0.2500"],
        ["20", "1.5000", "1.3750", "0.1250"],
    ]
    assert "![Training losses by step](training_curve.svg)" in card.text


def test_long_logs_are_thinned_between_their_first_and_last_entry(tmp_path):
    log = [{"step": step, "loss": 1 / step} for step in range(10, 1010, 10)]
    card = make_card(tmp_path, more={"state": {"global_step": 1000, "log_history": log}})
    steps = [row[0] for row in table_rows(card, "Training losses")[1:]]
    assert len(steps) == 10
    assert (steps[0], steps[-1]) == ("10", "1,000")


def test_the_configuration_is_complete(tmp_path):
    rows = dict(
        table_rows(make_card(tmp_path, parameters={"visual_path": 1200, "language_model": 34}), "Configuration")
    )
    assert rows["language model"] == "34"
    assert rows["all"] == "1,234"
    text = make_card(tmp_path).text
    for line in ("| `num_latents` | 24 |", r"| `gate_layers` | \[4, 8\] |", "| `vrp_context` | none |"):
        assert line in text
    assert r"| `text_config` | model\_type llama, vocab\_size 49152 |" in text
    assert "`teacher_beta`" not in text


def test_the_curve_is_an_svg_of_the_logged_points(tmp_path):
    curve = training_curve(read_run_facts(write_run(tmp_path / "run")))
    root = ElementTree.fromstring(curve)
    names = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text") if "at the end" in text.text]
    assert names == ["total: 1.5 at the end", "language modelling: 1.38 at the end", "distillation: 0.125 at the end"]
    path = next(path.get("d") for path in root.iter("{http://www.w3.org/2000/svg}path") if path.get("fill") == "none")
    (x0, y0), (x1, y1) = [map(float, point.split()) for point in re.split("[ML]", path)[1:]]
    assert x0 < x1 and y0 < y1  # y grows downwards: the loss falls
    assert training_curve(read_run_facts(write_run(tmp_path / "other", state=None))) is None


def test_evaluations_stand_beside_published_rows_of_other_data(tmp_path):
    card = make_card(tmp_path, evaluations=[write_evaluation(tmp_path / "evaluation")])
    rows = table_rows(card, "newsroom, test split, 2 articles")
    assert rows[1] == ["ROUGE-1", "0.3750", "0.2500 to 0.5000", "2"]
    assert rows[2] == ["ROUGE-2", "0.1250", "", "2"]
    assert rows[3] == ["image precision (IP)", "0.6250", "0.5000 to 0.7500", "1"]
    assert "### Published rows, measured on other data" in card.text
    compared = table_rows(card, "Comparison with published systems")
    # The paper's own row, as it prints it, and this model in the same units.
    assert ["DVP[1]", "44.20", "20.77", "74.03", "31.68", "3.55"] in compared
    own = next(row for row in compared if row[0].startswith("★ spectra-small"))
    assert own[1:4] == ["37.50", "12.50", "62.50"]
    assert "it could not be verified" in card.text
    assert "not MSMO" not in card.text and "Text tokens at most 512; tokens of a summary at most 99" in card.text


def test_msmo_s_test_split_is_told_from_other_data(tmp_path):
    data = {"name": "MSMO", "split": "test", "articles": 10261, "articles_sha256": "cd" * 32}
    folder = write_evaluation(tmp_path / "evaluation", data=data)
    lines = [f'{{"id": "{index}", "rouge1": 0.375}}\n' for index in range(10261)]
    (folder / "scores.jsonl").write_text("".join(lines))
    text = make_card(tmp_path, evaluations=[folder]).text
    assert "### Beside the published rows" in text
    assert "other data" not in text


def test_answers_stand_beside_the_published_rows_of_their_task(tmp_path):
    scores = {
        name: {"value": value, "low": None, "high": None, "articles": 2}
        for name, value in {"rougeL": 0.25, "cider": 0.125, "bleu4": 0.0625}.items()
    }
    folder = write_evaluation(tmp_path / "answers", task="group-captioning", selection="none", scores=scores)
    card = make_card(tmp_path, evaluations=[folder])
    assert "Answers to instructions (group captioning), which select no images." in card.text
    assert "### Published rows of group captioning" in card.text and "whole test split of MSMO" not in card.text
    rows = table_rows(card, "Group captioning: comparison with published systems")
    assert ["20.23", "19.49", "3.22"] in [row[1:] for row in rows]
    assert next(row for row in rows if row[0].startswith("★"))[1:] == ["25.00", "12.50", "6.25"]
    assert {result.metric_type: result.metric_value for result in card.data.eval_results} == {
        "rouge": 0.25,
        "cider": 0.125,
        "bleu": 0.0625,
    }


def test_scores_that_the_model_did_not_earn_are_not_its_results(tmp_path):
    random = write_evaluation(tmp_path / "random", selection="random")
    card = make_card(tmp_path, evaluations=[random])
    assert {result.metric_type for result in card.data.eval_results} == {"rouge"}
    assert "Images selected by chance, not by the model." in card.text
    rows = table_rows(card, "newsroom, test split, 2 articles")
    assert [row[0] for row in rows if "†" in row[0]] == ["image precision (IP) †", "MaxSim †"]
    own = next(row for row in table_rows(card, "Comparison with published systems") if row[0].startswith("★"))
    assert own[1:3] == ["37.50", "12.50"] and own[3].startswith("–")

    untrained = {**CONFIG, "distill_weight": 0.0, "align_weight": 0.5}
    card = make_card(tmp_path, config=untrained)
    assert {result.metric_type for result in card.data.eval_results} == {"rouge", "loss"}
    assert "Its image predictor was not trained" in card.text
    assert "learned from a teacher" not in card.text

    source = {"kind": "model", "name": "m", "text_only": True}
    card = make_card(tmp_path, evaluations=[write_evaluation(tmp_path / "blind", source=source)])
    assert card.data.get("eval_results") is None
    assert "The images were withheld from the summarizer." in card.text


def test_scores_of_quantized_weights_are_told_from_the_model_s_own(tmp_path):
    settings = evaluation_metrics()["settings"] | {"quantize": "language-model"}
    quantized = write_evaluation(tmp_path / "quantized", settings=settings, system="q")
    card = make_card(tmp_path / "alone", evaluations=[quantized])
    assert card.data.get("eval_results") is None
    assert "Measured with the language model in 4 bits (NF4)" in card.text
    # Beside the unquantized one, of the same articles.
    scores = {"rouge1": {"value": 0.875, "low": 0.8, "high": 0.9, "articles": 2}}
    own = write_evaluation(tmp_path / "own", scores=scores)
    card = make_card(tmp_path / "both", evaluations=[quantized, own])
    assert [result.metric_value for result in card.data.eval_results] == [0.875]
    assert card.text.count("in 4 bits (NF4)") == 1


def test_4_bit_training_is_told(tmp_path):
    options = {"use_peft": True, "load_in_4bit": True}
    run = {**RUN, "arguments": {**RUN["arguments"], "model": options}}
    assert "LoRA adapters on the frozen language model in 4-bit NF4" in make_card(tmp_path / "4", run=run).text
    del options["load_in_4bit"]
    assert "4-bit" not in make_card(tmp_path / "16", run=run).text


def test_absent_facts_leave_their_sections_out(tmp_path):
    nothing = {"state": None, "metrics": None}
    card = make_card(tmp_path, run=None, more=nothing)
    for heading in ("## Evaluation", "## Training", "### Training losses", "training_curve", "Measured"):
        assert heading not in card.text
    for absent in ("license", "base_model", "base_model_relation", "datasets", "metrics", "model-index", "model_name"):
        assert absent not in card.data.to_dict()
    assert "none is claimed" in card.text
    assert "spectra-sum" in card.data.tags
    assert "None" not in card.text and "Undefined" not in card.text
    some = dict(table_rows(make_card(tmp_path, run=without(RUN, "hardware"), more={"metrics": None}), "Training")[1:])
    assert "hardware" not in some and some["seed"] == "17"


@pytest.mark.parametrize(
    ("vision", "text", "licenses", "stated", "expected"),
    [
        ("hub", "wheel", {SIGLIP: "apache-2.0"}, None, "apache-2.0"),
        ("hub", "wheel", {}, None, None),
        ("hub", "wheel", {}, "mit", "mit"),
        ("folder", "wheel", {}, None, None),
        ("random", "wheel", {}, None, "apache-2.0"),
        ("closed_world", "closed_world", {}, None, "apache-2.0"),
        ("hub", "wheel", {SIGLIP: "gemma"}, None, "other"),
    ],
)
def test_the_licence_is_that_of_the_backbones(tmp_path, vision, text, licenses, stated, expected):
    names = {"hub": SIGLIP, "wheel": "smollm2"}
    sources = {"vision": vision, "text": text}
    run = {**RUN, "backbones": {role: {"name": names.get(s, f"/srv/{s}"), "source": s} for role, s in sources.items()}}
    card = make_card(tmp_path, run=run, licenses=licenses, license=stated)
    assert card.data.license == expected
    if expected == "other":
        assert f"{SMOLLM2}: apache-2.0; {SIGLIP}: gemma" in card.text.replace("\\", "")
        assert card.data.license_name and card.data.license_link
    if expected is None:
        assert "none is claimed" in card.text


def test_a_stated_licence_that_contradicts_the_backbones_is_refused(tmp_path):
    run = {**RUN, "backbones": {role: {"name": "x", "source": "closed_world"} for role in ("vision", "text")}}
    with pytest.raises(HubError, match="--license mit contradicts the backbones"):
        make_card(tmp_path, run=run, license="mit")


def test_backbone_licenses_are_those_of_the_cards_on_the_hub(tmp_path, monkeypatch):
    facts = read_run_facts(write_run(tmp_path / "run"))

    def answer(result):
        def model_info(self, name):
            assert name == SIGLIP  # the licence of the wheel's model is known
            if isinstance(result, Exception):
                raise result
            return result

        monkeypatch.setattr(HfApi, "model_info", model_info)

    answer(ModelInfo(id=SIGLIP, cardData={"license": "mit"}))
    assert backbone_licenses(facts) == {SIGLIP: "mit"}
    answer(ModelInfo(id=SIGLIP))
    assert backbone_licenses(facts) == {}
    request = httpx2.Request("GET", "https://hub.example/api")
    for status in (401, 403, 404):
        answer(HfHubHTTPError("no", response=httpx2.Response(status, request=request)))
        assert backbone_licenses(facts) == {}
    # What passes by itself must not publish a card without its licence.
    for failure in (
        HfHubHTTPError("failed", response=httpx2.Response(500, request=request)),
        httpx2.ConnectError("refused"),
        OfflineModeIsEnabled("offline"),
    ):
        answer(failure)
        with pytest.raises(HubError, match=f"licence of {SIGLIP}: "):
            backbone_licenses(facts)


LEARNED, NOT_RECORDED = "learned from a teacher", "No training is recorded for these weights"


def test_a_trained_selection_is_claimed_of_a_run_only(tmp_path):
    assert CONFIG["distill_weight"] == 1.0
    nothing = {"state": None, "metrics": None}
    unknown = make_card(tmp_path / "unknown", run=None, more=nothing)
    assert LEARNED not in unknown.text and NOT_RECORDED in unknown.text
    assert "not trained" not in unknown.text
    evaluation = write_evaluation(tmp_path / "evaluation")
    card = make_card(tmp_path / "evaluated", run=None, more=nothing, evaluations=[evaluation])
    assert {result.metric_type for result in card.data.eval_results} == {"rouge"}
    assert "the model's predictor, of which no training is recorded" in card.text
    state = {"global_step": 0, "log_history": []}
    assert LEARNED not in make_card(tmp_path / "unstarted", more={"state": state}).text
    for name, options in (("record", {"more": nothing}), ("steps", {"run": None})):
        text = make_card(tmp_path / name, **options).text
        assert LEARNED in text and NOT_RECORDED not in text


def test_the_base_of_an_adapter_is_called_what_it_is(tmp_path):
    nothing = {"state": None, "metrics": None}
    base = {"adapter_base": True, "initial_model": None, "backbones": RUN["backbones"]}
    card = make_card(tmp_path / "fresh", run=base, more=nothing, licenses={SIGLIP: "apache-2.0"})
    assert "It is to be used with its adapter" in card.text and "the visual path is fresh" in card.text
    assert LEARNED not in card.text and NOT_RECORDED not in card.text and "## Training" not in card.text
    # Its licence and models are known all the same.
    assert (card.data.license, card.data.base_model) == ("apache-2.0", [SMOLLM2, SIGLIP])
    second = {**base, "initial_model": {"name": "/srv/first-stage", "source": "folder"}}
    text = make_card(tmp_path / "second", run=second, more=nothing).text
    assert "It is to be used with its adapter" in text and "fresh" not in text and LEARNED not in text


def test_the_best_checkpoint_of_a_run_is_not_its_last_step(tmp_path):
    run = copy.deepcopy(RUN)
    run["arguments"]["training"]["load_best_model_at_end"] = True
    evaluated = {"step": 10, "epoch": 0.25, "eval_loss": 2.0}
    state = {**STATE, "best_global_step": 10, "log_history": [evaluated, *STATE["log_history"]]}
    card = make_card(tmp_path / "best", run=run, more={"state": state})
    rows = dict(table_rows(card, "Training")[1:])
    assert rows["optimizer steps"] == "10 (the best checkpoint of a run of 20 steps)"
    assert rows["epochs"] == "0.25"
    assert "the validation loss is that of the whole validation split at that step" in card.text
    # A checkpoint holds its own weights, and other runs keep those of their last step.
    for name, options in (
        ("checkpoint-20", {"run": run, "more": {"state": {**state, "log_history": state["log_history"][:-1]}}}),
        ("last", {"more": {"state": state}}),
    ):
        assert dict(table_rows(make_card(tmp_path / name, **options), "Training")[1:])["optimizer steps"] == "20"
    assert "validation loss" not in make_card(tmp_path / "without").text


@pytest.mark.parametrize(("source", "shown"), [("hub", "news/stories"), ("file", "stories"), ("folder", "stories")])
def test_data_of_the_hub_keep_their_whole_name(tmp_path, source, shown):
    card = make_card(tmp_path, run={**RUN, "data": {"name": "news/stories", "source": source, "articles": {}}})
    rows = dict(table_rows(card, "Training")[1:])
    assert rows["data"].replace("\\", "") == shown and "articles" not in rows


def test_models_of_the_closed_world_are_called_toys(tmp_path):
    data = {
        "name": "closed_world",
        "source": "closed_world",
        "seed": 3,
        "difficulty": "far",
        "articles": {"train": 60},
    }
    backbones = {role: {"name": f"/srv/{role}", "source": "closed_world"} for role in ("vision", "text")}
    card = make_card(tmp_path, run={**RUN, "data": data, "backbones": backbones})
    assert "This is a toy." in card.text and "a vocabulary of 49152 tokens" in card.text
    assert "made by code (difficulty far, seed 3)" in card.text
    assert "base_model" not in card.data.to_dict()
    assert "For research on summarizing English news" not in card.text


def test_an_adapter_names_its_base(tmp_path):
    with pytest.raises(HubError, match="push the base first"):
        make_card(tmp_path, kind="adapter")
    card = make_card(tmp_path, kind="adapter", base_model="news/spectra-base", base_revision="a" * 40)
    expected = {"library_name": "peft", "base_model": "news/spectra-base", "base_model_relation": "adapter"}
    assert expected.items() <= card.data.to_dict().items()
    assert "AutoPeftModel.from_pretrained(repository, revision=revision, trust_remote_code=True)" in card.text
    assert "a" * 40 in card.text
    assert "pipeline(" not in card.text


def test_every_load_in_the_usage_pins_a_revision(tmp_path):
    for options in ({}, {"kind": "adapter", "base_model": "news/spectra-base"}):
        text = make_card(tmp_path, **options).text
        loads = re.findall(r"(?:from_pretrained|pipeline)\((.*)\)", text)
        assert len(loads) >= 2
        assert all("revision=revision" in load and "trust_remote_code=True" in load for load in loads)
        for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
            compile(block, "card", "exec")
    assert "transformers>=5.23,<6" in text


def test_nothing_of_the_machine_or_its_secrets_comes_through(tmp_path):
    token, user, host = "hf_" + "Ab1" * 11, getpass.getuser(), socket.gethostname()
    run = copy.deepcopy(RUN)
    run["data"]["name"] = f"/home/{user}/private-folder/data"
    run["arguments"]["training"]["lr_scheduler_type"] = f"/home/{user}"
    run["arguments"]["training"] |= {"hub_token": token, "optim": token, "output_dir": f"/home/{user}/runs/x"}
    run["arguments"]["data"]["dataset"] = "/srv/private-folder"
    run["backbones"]["vision"] = {"name": "/srv/private-folder/siglip", "source": "folder"}
    run["backbones"]["text"] = {"name": "../private-folder/llm.gguf", "source": "file"}
    run["hardware"]["gpu"] = "/dev/private-folder/gpu0"
    run["versions"]["torch"] = f"2.0 from /opt/private-folder/torch {token}"
    evaluation = write_evaluation(
        tmp_path / "evaluation",
        system=f"{user}-on-{host}",
        source={"kind": "model", "name": "runs/private-folder/model", "text_only": False},
        data={"name": f"{user}@{host}", "split": "test", "articles": 2, "articles_sha256": "0" * 64},
        not_computed={"mmae": "C:\\private-folder\\model failed; /home/private-folder/x"},
        settings=evaluation_metrics()["settings"] | {"similarity_model": "private-folder/dual-encoder"},
        versions={"torch": token},
    )
    config = {**CONFIG, "hidden_act": token}
    text = str(make_card(tmp_path, run=run, config=config, evaluations=[evaluation]))
    assert "private-folder" not in text and "/home/" not in text and "/srv/" not in text and "/opt/" not in text
    assert "Ab1Ab1" not in text
    assert str(tmp_path) not in text
    assert not re.search(rf"(?<!\w){re.escape(user)}(?!\w)", text)
    assert not re.search(rf"(?<!\w){re.escape(host)}(?!\w)", text)
    # What remains of the paths is what a reader needs.
    assert "siglip" in text and "llm.gguf" in text and "dual-encoder" in text


def test_markup_in_the_facts_stays_text(tmp_path):
    evil = "a|b\n---\n# <img src=x onerror=alert(1)> [link](javascript:x) `c`"
    run = copy.deepcopy(RUN)
    run["data"]["name"] = evil
    run["backbones"]["vision"] = {"name": "x](javascript:alert)", "source": "hub"}
    run["arguments"]["training"]["optim"] = evil
    run["versions"] = {evil: evil}
    evaluation = write_evaluation(
        tmp_path / "evaluation",
        data={"name": evil, "split": evil, "articles": 2, "articles_sha256": "0" * 64},
        dropped={evil: 3},
        selection=evil,
    )
    more = {"metrics": {**METRICS, f"test_{evil}": 1.0}}
    for evaluations in ([evaluation], []):
        card = make_card(tmp_path, run=run, evaluations=evaluations, config={**CONFIG, "hidden_act": evil}, more=more)
        html = MarkdownIt("gfm-like", {"html": True, "linkify": False}).render(card.text)
        assert "<img src=x" not in html and 'href="javascript' not in html
        assert len(table_rows(card, "Training")[1]) == 2
        assert card.data.base_model == SMOLLM2
        assert card.text.count("\n---\n") == 0
        assert isinstance(ModelCard(str(card)).data, ModelCardData)
        assert ModelCard(str(card)).data.to_dict() == card.data.to_dict()


def test_a_resumed_run_s_time_is_told_as_what_it_is(tmp_path):
    run = {**RUN, "resumed": [{"checkpoint": "checkpoint-10", "time": "2031-05-07T00:00:00+00:00"}]}
    rows = dict(table_rows(make_card(tmp_path, run=run), "Training")[1:])
    assert rows["training time"] == "1.2 hours since it was resumed last"
    assert rows["times resumed"] == "1"
    assert STATE["log_history"][-1]["train_runtime"] == 4321.0
