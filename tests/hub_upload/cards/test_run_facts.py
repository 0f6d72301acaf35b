"""The facts of a run: read as they were written, looked for where they can be, and named when they are damaged."""

import copy
import json
import math

import pytest
import torch
from safetensors.torch import load_file, save_file

from hub_upload.cards.run_facts import count_parameters, read_run_facts
from hub_upload.errors import HubError
from spectra_sum.models.loading import weight_digests
from tests.hub_upload.facts import CONFIG, METRICS, RUN, STATE, evaluation_metrics, write_evaluation, write_run


def test_the_facts_are_those_of_the_files(tmp_path):
    facts = read_run_facts(write_run(tmp_path / "run"), [write_evaluation(tmp_path / "evaluation")])
    assert facts.record == RUN
    assert list(facts.log) == STATE["log_history"]
    assert facts.steps == 20
    # How fast the trainer evaluated is no score of the model.
    assert facts.metrics == {"rouge1": 0.4321, "image_precision": 0.75, "loss": 1.25}
    assert facts.metrics_split == "test"
    (evaluation,) = facts.evaluations
    assert (evaluation.scores.data_name, evaluation.scores.articles, evaluation.text_only) == ("newsroom", 2, False)
    score = evaluation.scores.scores["rouge1"]
    assert (score.value, score.low, score.high, score.articles) == (0.375, 0.25, 0.5, 2)
    assert evaluation.versions == {"transformers": "5.25.0", "torch": "2.9.1"}
    assert facts.adapter == {}


def test_a_folder_without_facts_has_none(tmp_path):
    facts = read_run_facts(write_run(tmp_path / "model", run=None, state=None, metrics=None))
    assert (facts.record, facts.log, facts.steps, facts.metrics, facts.metrics_split) == ({}, (), None, {}, None)


def test_a_checkpoint_takes_the_run_s_record_but_not_its_scores(tmp_path):
    write_run(tmp_path / "run")
    state = {"global_step": 10, "log_history": STATE["log_history"][:1]}
    checkpoint = write_run(tmp_path / "run" / "checkpoint-10", run=None, state=state, metrics=None)
    facts = read_run_facts(checkpoint)
    assert facts.record == RUN
    assert (facts.steps, len(facts.log)) == (10, 1)
    assert facts.metrics == {}


def test_a_folder_that_is_no_checkpoint_takes_nothing_from_above(tmp_path):
    write_run(tmp_path / "run")
    assert read_run_facts(write_run(tmp_path / "run" / "model", run=None)).record == {}


def test_validation_scores_stand_in_for_a_missing_test_split(tmp_path):
    facts = read_run_facts(write_run(tmp_path / "run", metrics={"validation_rouge2": 0.25, "epoch": 1.0}))
    assert (facts.metrics, facts.metrics_split) == ({"rouge2": 0.25}, "validation")


@pytest.mark.parametrize("name", ["run.json", "trainer_state.json", "metrics.json", "config.json"])
@pytest.mark.parametrize("content", ['{"log_history": [', "[1, 2]", b"\xff\xfe"])
def test_a_damaged_file_is_named(tmp_path, name, content):
    run = write_run(tmp_path / "run")
    (run / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(HubError) as error:
        read_run_facts(run)
    assert str(run / name) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("data",), "closed_world"),
        (("data", "articles"), [1]),
        (("data", "articles", "train"), "many"),
        (("data", "name"), 5),
        (("backbones", "text"), "smollm2"),
        (("backbones", "vision", "source"), None),
        (("initial_model",), []),
        (("arguments", "training"), 1),
        (("arguments", "training", "gradient_accumulation_steps"), "4"),
        (("processes",), "2"),
        (("resumed",), {}),
        (("adapter_base",), "yes"),
    ],
)
def test_a_record_of_another_form_is_refused(tmp_path, path, value):
    record = copy.deepcopy(RUN)
    place = record
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(HubError, match=r"run\.json: .* is not what the trainer writes"):
        read_run_facts(write_run(tmp_path / "run", run=record))


def test_a_log_that_is_no_log_is_refused_and_a_loss_that_is_nan_is_not(tmp_path):
    for damaged in ({"loss": 1.0}, {"step": 1, "loss": "low"}, 3):
        run = write_run(tmp_path / "run", state={"log_history": [damaged]})
        with pytest.raises(HubError, match="trainer_state.json: its log_history is damaged"):
            read_run_facts(run)
    state = {"log_history": [{"step": 1, "loss": math.nan}]}
    assert math.isnan(read_run_facts(write_run(tmp_path / "run", state=state)).log[0]["loss"])


def test_a_score_that_is_no_number_is_refused(tmp_path):
    run = write_run(tmp_path / "run", metrics={**METRICS, "test_rouge1": math.nan})
    with pytest.raises(HubError, match="metrics.json: rouge1 is nan"):
        read_run_facts(run)


def test_how_many_articles_the_run_s_own_scores_are_of(tmp_path):
    # An earlier version did not say it: it evaluated the whole split.
    for samples, expected in ((None, 48), (12, 12)):
        metrics = METRICS | ({} if samples is None else {"test_samples": samples})
        facts = read_run_facts(write_run(tmp_path / "run", metrics=metrics))
        assert (facts.metrics_split, facts.metrics_articles) == ("test", expected)
        assert set(facts.metrics) == {"rouge1", "image_precision", "loss"}
    for damaged in ("many", 1.5, True):
        run = write_run(tmp_path / "run", metrics={**METRICS, "test_samples": damaged})
        with pytest.raises(HubError, match="metrics.json: test_samples is .*, where a whole number is needed"):
            read_run_facts(run)


def test_evaluations_of_something_else_are_refused(tmp_path):
    run = write_run(tmp_path / "run")
    lead = write_evaluation(tmp_path / "lead", source={"kind": "baseline", "name": "lead-3", "text_only": False})
    with pytest.raises(HubError, match="this is the evaluation of baseline lead-3"):
        read_run_facts(run, [lead])
    other = evaluation_metrics()["variant"] | {"fusion": "sampler"}
    with pytest.raises(HubError, match="the evaluated model has fusion 'sampler', this one 'dvp'"):
        read_run_facts(run, [write_evaluation(tmp_path / "other", variant=other)])
    objective = evaluation_metrics()["variant"] | {"objective": "lm"}
    with pytest.raises(HubError, match="objective 'lm', this one 'multi'"):
        read_run_facts(run, [write_evaluation(tmp_path / "objective", variant=objective)])
    twice = [write_evaluation(tmp_path / name) for name in ("one", "two")]
    with pytest.raises(HubError, match="newsroom, test, was named already"):
        read_run_facts(run, twice)
    settings = evaluation_metrics()["settings"] | {"quantize": "language-model"}
    quantized = [write_evaluation(tmp_path / name, settings=settings) for name in ("three", "four")]
    assert len(read_run_facts(run, [twice[0], quantized[0]]).evaluations) == 2
    with pytest.raises(HubError, match="newsroom, test, was named already"):
        read_run_facts(run, quantized)
    with pytest.raises(HubError, match="no such folder"):
        read_run_facts(run, [tmp_path / "missing"])
    (twice[0] / "metrics.json").write_text("{")
    with pytest.raises(HubError, match="metrics.json: not valid JSON"):
        read_run_facts(run, twice[:1])


def save_weights(path, value=1.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"a": torch.full((2,), value), "b": torch.zeros(3, dtype=torch.bfloat16)}, path)


def test_an_evaluation_of_other_weights_is_refused(tmp_path):
    run = write_run(tmp_path / "run")
    save_weights(run / "model.safetensors")
    earlier = weight_digests(str(run))
    evaluation = write_evaluation(tmp_path / "evaluation", weights=earlier)
    assert read_run_facts(run, [evaluation]).evaluations[0].same_weights
    old = write_evaluation(tmp_path / "old")
    assert not read_run_facts(run, [old]).evaluations[0].same_weights
    save_weights(run / "model.safetensors", 1.5)
    with pytest.raises(HubError, match=r"metrics\.json: the evaluated weights are not those of this model \(model\)"):
        read_run_facts(run, [evaluation])

    # A merged model's weights can neither be shown to be those of an adapter, nor to be others.
    (run / "model.safetensors").unlink()
    save_weights(run / "adapter_model.safetensors")
    save_weights(run / "base" / "model.safetensors")
    (run / "base" / "config.json").write_text(json.dumps(CONFIG))
    (run / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(run / "base")}))
    assert not read_run_facts(run, [evaluation]).evaluations[0].same_weights
    both = write_evaluation(tmp_path / "both", weights=weight_digests(str(run)))
    assert read_run_facts(run, [both]).evaluations[0].same_weights
    save_weights(run / "base" / "model.safetensors", 2.0)
    with pytest.raises(HubError, match=r"not those of this model \(base\)"):
        read_run_facts(run, [both])


def test_weights_are_the_same_in_other_files(tmp_path):
    save_weights(tmp_path / "one" / "model.safetensors")
    digest = weight_digests(str(tmp_path / "one"))
    tensors = load_file(tmp_path / "one" / "model.safetensors")
    (tmp_path / "two").mkdir()
    for name, value in tensors.items():
        save_file({name: value}, tmp_path / "two" / f"{name}.safetensors")
    index = {"weight_map": {name: f"{name}.safetensors" for name in tensors}}
    (tmp_path / "two" / "model.safetensors.index.json").write_text(json.dumps(index))
    assert weight_digests(str(tmp_path / "two")) == digest
    # The same bytes under another name, in another type or shape are other weights.
    a = tensors["a"]
    for changed in ({"c": a}, {"a": a.view(torch.int32)}, {"a": a.view(1, 2)}):
        kept = {"b": tensors["b"]} | changed
        save_file(kept, tmp_path / "one" / "model.safetensors")
        assert weight_digests(str(tmp_path / "one")) != digest


def test_the_config_of_an_adapter_s_evaluation_is_that_of_its_base(tmp_path):
    run = write_run(tmp_path / "run", config=None)
    (run / "adapter_config.json").write_text(json.dumps({"r": 16, "lora_alpha": 64}))
    (run / "base").mkdir()
    (run / "base" / "config.json").write_text(json.dumps({**CONFIG, "fusion": "concat"}))
    assert read_run_facts(run).adapter == {"r": 16, "lora_alpha": 64}
    with pytest.raises(HubError, match="this one 'concat'"):
        read_run_facts(run, [write_evaluation(tmp_path / "evaluation")])


def test_parameters_are_counted_by_part(tmp_path):
    save_file(
        {"vision_tower.a": torch.zeros(2, 3), "language_model.b": torch.zeros(5)}, tmp_path / "model.safetensors"
    )
    assert count_parameters(tmp_path) == {"vision_tower": 6, "language_model": 5}
    save_file(
        {
            "base_model.model.language_model.q.lora_A.weight": torch.zeros(4, 2),
            "base_model.model.visual_path.gate": torch.zeros(()),
        },
        tmp_path / "model.safetensors",
    )
    assert count_parameters(tmp_path) == {"lora": 8, "visual_path": 1}
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(HubError, match=r"model\.safetensors: the weights cannot be read"):
        count_parameters(tmp_path)
    assert count_parameters(tmp_path / "nowhere") == {}
