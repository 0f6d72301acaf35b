"""The trainer: what it trains, how it adds its losses up, and that stopping and resuming changes nothing."""

import math
from pathlib import Path

import pytest
import torch
from datasets import DatasetDict
from peft import AutoPeftModel
from rouge_score.rouge_scorer import RougeScorer
from safetensors.torch import load_file

from spectra_sum.msmo.closed_world import closed_world_dataset
from tests.double_precision import EXACT, double_precision
from tests.trainer.training_setup import save_setup, setup_arguments
from trainer.building import build_trainer
from trainer.checkpoints.resuming import checkpoint_to_resume
from trainer.collator import record_key
from trainer.spectra_trainer import QUEUE_FILE, SpectraTrainer
from trainer.train import parse_arguments
from trainer.trainable import GATE_PARAMETER

# What the collator adds for the losses.
NOT_THE_MODELS = ("summary_sentences", "negative_keys", "article_ids")
pytestmark = pytest.mark.usefixtures("float64")


@pytest.fixture(scope="module")
def records() -> DatasetDict:
    return closed_world_dataset({"train": 16, "validation": 3, "test": 3}, seed=5)


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with double_precision():
        return save_setup(tmp_path_factory.mktemp("setup"), {"dtype": "auto"})


@pytest.fixture
def make_trainer(tmp_path: Path, records: DatasetDict, setup: Path):
    def make(*argv: str, output: str = "run") -> SpectraTrainer:
        return build_trainer(*parse_arguments(setup_arguments(setup, tmp_path / output, *argv)), records)

    return make


def fill_queue(trainer: SpectraTrainer, records: DatasetDict) -> None:
    """The same five negatives for everyone, one of them under the key of the first training article."""
    width = trainer.base_model.config.image_embedding_size
    embeds = torch.randn(5, width, generator=torch.Generator().manual_seed(9))
    keys = torch.tensor([record_key(records["train"][0]), 1, 2, 3, 4])
    trainer.negative_queue.push(torch.nn.functional.normalize(embeds, dim=-1), keys)


def parameters(trainer: SpectraTrainer) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in trainer.model.named_parameters()}


def losses(trainer: SpectraTrainer) -> list[dict[str, float]]:
    names = ("loss", "loss_lm", "loss_align", "loss_distill")
    return [{name: entry[name] for name in names} for entry in trainer.state.log_history if "loss_lm" in entry]


def test_accumulating_four_times_one_equals_one_times_four(make_trainer, records):
    # SGD: the parameters move in proportion to the gradient, whose scale AdamW would hide.
    together = make_trainer("--per_device_train_batch_size", "4", "--optim", "sgd")
    apart = make_trainer(
        "--per_device_train_batch_size", "1", "--gradient_accumulation_steps", "4", "--optim", "sgd", output="apart"
    )
    for trainer in (together, apart):
        fill_queue(trainer, records)
        trainer.train()
    before = torch.cat([value.flatten() for value in parameters(make_trainer(output="start")).values()])
    one = torch.cat([value.flatten() for value in parameters(together).values()])
    other = torch.cat([value.flatten() for value in parameters(apart).values()])
    assert (one - before).abs().max() > 1e-4
    torch.testing.assert_close(other - before, one - before, **EXACT)
    for first, second in zip(losses(together), losses(apart), strict=True):
        assert second == pytest.approx(first, rel=1e-9)
    assert torch.equal(together.negative_queue.keys, apart.negative_queue.keys)


def test_loss_is_the_weighted_sum_of_its_logged_parts(make_trainer, records):
    trainer = make_trainer("--align_weight", "0.3", "--distill_weight", "0.7")
    fill_queue(trainer, records)
    trainer.train()
    entries = losses(trainer)
    assert len(entries) == 2
    for entry in entries:
        assert min(entry.values()) > 0
        expected = entry["loss_lm"] + 0.3 * entry["loss_align"] + 0.7 * entry["loss_distill"]
        assert entry["loss"] == pytest.approx(expected, rel=1e-9)


def test_lm_loss_is_the_models_own_on_the_same_batch(make_trainer):
    trainer = make_trainer("--align_weight", "0", "--distill_weight", "0")
    batch = next(iter(trainer.get_train_dataloader()))
    loss = trainer.compute_loss(trainer.model.eval(), batch)
    inputs = {name: value for name, value in batch.items() if name not in NOT_THE_MODELS}
    logits = trainer.model(**inputs).logits[:, :-1]
    targets = inputs["labels"][:, 1:]
    log_probabilities = logits.log_softmax(-1)
    picked = [log_probabilities[row, column, targets[row, column]] for row, column in (targets != -100).nonzero()]
    assert loss.item() == pytest.approx(-torch.stack(picked).mean().item(), rel=1e-9)


def test_every_trainable_parameter_moves_within_two_steps(make_trainer, records):
    trainer = make_trainer("--gate_init", "0.0")
    fill_queue(trainer, records)
    start = parameters(trainer)
    trainer.train()
    end = parameters(trainer)
    moved = {name for name in start if not torch.equal(start[name], end[name])}
    trainable = {name for name, value in trainer.model.named_parameters() if value.requires_grad}
    assert trainable - moved == set()
    assert not any(name.startswith("vision_tower") for name in moved)


@pytest.mark.parametrize(
    ("argv", "language_model"),
    [(("--freeze_language_model", "true"), False), (("--freeze_language_model", "false"), True)],
)
def test_exact_set_of_trainable_names(make_trainer, argv, language_model):
    model = make_trainer(*argv).model
    trainable = {name for name, value in model.named_parameters() if value.requires_grad}
    prefixes = ("visual_path.", "language_model.") if language_model else ("visual_path.",)
    assert trainable == {name for name, _ in model.named_parameters() if name.startswith(prefixes)}


def test_parts_without_a_loss_stay_frozen(make_trainer):
    model = make_trainer("--align_weight", "0", "--distill_weight", "0").model
    frozen = {name for name, value in model.visual_path.named_parameters() if not value.requires_grad}
    heads = ("relevance_predictor.", "alignment_head.")
    assert frozen == {name for name, _ in model.visual_path.named_parameters() if name.startswith(heads)}


def test_exact_set_of_trainable_names_under_lora(make_trainer):
    model = make_trainer("--use_peft", "true", "--lora_r", "2", "--freeze_language_model", "true").model
    trainable = {name for name, value in model.named_parameters() if value.requires_grad}
    linear = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    base = "base_model.model."
    expected = {
        f"{base}language_model.model.layers.{layer}.{'mlp' if name in linear[4:] else 'self_attn'}.{name}"
        f".lora_{part}.default.weight"
        for layer in range(4)
        for name in linear
        for part in "AB"
    }
    original = model.get_base_model().visual_path.original_module
    expected |= {f"{base}visual_path.modules_to_save.default.{name}" for name, _ in original.named_parameters()}
    assert trainable == expected


def test_lora_trains_every_tensor_and_its_checkpoint_gives_the_same_logits(make_trainer, records, tmp_path):
    trainer = make_trainer(
        "--use_peft",
        "true",
        "--lora_r",
        "2",
        "--freeze_language_model",
        "true",
        "--gate_init",
        "0.0",
        "--save_strategy",
        "steps",
        "--save_steps",
        "2",
    )
    fill_queue(trainer, records)
    start = parameters(trainer)
    trainer.train()
    end = parameters(trainer)
    trainable = {name for name, value in trainer.model.named_parameters() if value.requires_grad}
    assert {name for name in start if not torch.equal(start[name], end[name])} == trainable

    checkpoint = tmp_path / "run" / "checkpoint-2"
    reloaded = AutoPeftModel.from_pretrained(checkpoint, trust_remote_code=True)
    assert reloaded.peft_config["default"].base_model_name_or_path == str(tmp_path / "run" / "base")
    batch = trainer.data_collator([records["validation"][index] for index in range(3)])
    inputs = {name: value for name, value in batch.items() if name not in NOT_THE_MODELS}
    with torch.no_grad():
        expected, found = trainer.model.eval()(**inputs), reloaded.eval()(**inputs)
    torch.testing.assert_close(found.logits, expected.logits, **EXACT)
    torch.testing.assert_close(found.selection_logits, expected.selection_logits, **EXACT)


def test_learning_rates_of_the_groups(make_trainer):
    trainer = make_trainer("--visual_path_learning_rate_factor", "2", "--gate_learning_rate_factor", "5")
    rates = {}
    names = {id(value): name for name, value in trainer.model.named_parameters()}
    for group in trainer.create_optimizer().param_groups:
        for value in group["params"]:
            rates[names[id(value)]] = group["lr"]
    for name, rate in rates.items():
        gates = name in {"visual_path.cross_attentions.1.gate.alpha", "visual_path.cross_attentions.3.gate.alpha"}
        assert rate == pytest.approx(0.1 if gates else 0.02 if name.startswith("visual_path") else 0.01), name
        assert bool(GATE_PARAMETER.search(name)) == gates
    assert len(rates) == sum(value.requires_grad for value in trainer.model.parameters())


@pytest.mark.parametrize("peft", [(), ("--use_peft", "true", "--lora_r", "2", "--freeze_language_model", "true")])
def test_resuming_gives_the_losses_of_an_uninterrupted_run(make_trainer, peft):
    saving = ("--save_strategy", "steps", "--save_steps", "2", "--lr_scheduler_type", "constant", *peft)
    whole = make_trainer("--max_steps", "4", *saving, output="whole")
    whole.train()
    first = make_trainer("--max_steps", "2", *saving, output="parts")
    first.train()
    second = make_trainer("--max_steps", "4", "--resume_from_checkpoint", "latest", *saving, output="parts")
    checkpoint = checkpoint_to_resume(second.args)
    assert Path(checkpoint, QUEUE_FILE).is_file()
    second.train(resume_from_checkpoint=checkpoint)
    assert losses(second) == losses(whole)
    assert torch.equal(second.negative_queue.embeds, whole.negative_queue.embeds)
    assert torch.equal(second.negative_queue.keys, whole.negative_queue.keys)
    resumed = parameters(second)
    for name, value in parameters(whole).items():
        assert torch.equal(resumed[name], value), name


def test_queue_grows_by_the_articles_of_a_step_and_never_in_evaluation(make_trainer, records):
    trainer = make_trainer("--gradient_accumulation_steps", "2", "--predict_with_generate", "false")
    trainer.train()
    assert len(trainer.negative_queue) == 2 * 2 * 2
    assert set(trainer.negative_queue.keys.tolist()) <= {record_key(record) for record in records["train"]}
    trainer.evaluate()
    assert len(trainer.negative_queue) == 8


def test_evaluation_scores_what_the_model_writes(make_trainer, records):
    trainer = make_trainer()
    metrics = trainer.evaluate()
    predictions = trainer.predict(records["validation"]).articles
    scorer = RougeScorer(["rouge1"], use_stemmer=True)
    references = [" ".join(record["summary"]) for record in records["validation"]]
    scores = [
        scorer.score(reference, prediction["summary"])["rouge1"].fmeasure
        for reference, prediction in zip(references, predictions, strict=True)
    ]
    assert metrics["eval_rouge1"] == pytest.approx(sum(scores) / 3)
    hits = [
        sum(index in record["gold_images"] for index in prediction["selected"]) / len(prediction["selected"])
        for record, prediction in zip(records["validation"], predictions, strict=True)
    ]
    assert metrics["eval_image_precision"] == pytest.approx(sum(hits) / 3)
    assert all(len(prediction["selected"]) == 2 for prediction in predictions)
    assert {"eval_loss", "eval_loss_lm", "eval_loss_align", "eval_text_facts", "eval_visual_facts_trend"} <= set(
        metrics
    )


def test_logs_hold_gates_and_teacher(make_trainer):
    trainer = make_trainer("--gate_init", "0.5")
    trainer.train()
    entry = [entry for entry in trainer.state.log_history if "loss_lm" in entry][-1]
    for layer in (1, 3):
        alpha = trainer.model.visual_path.cross_attentions[str(layer)].gate.alpha.item()
        assert entry[f"gate_{layer}"] == pytest.approx(abs(math.tanh(alpha)), rel=1e-9)
    assert 0 < entry["teacher_spread"] <= 1
    assert 0 <= entry["vrp_agreement"] <= 1


def test_first_images_are_seen_until_the_predictor_is_warm(make_trainer, records):
    trainer = make_trainer("--vrp_warmup_steps", "1", "--max_images", "2")
    batch = trainer.data_collator([max(records["train"], key=lambda record: len(record["images"]))])
    seen = []
    for step in (0, 1):
        trainer.state.global_step = step
        _, outputs = trainer.compute_loss(trainer.model.train(), batch, return_outputs=True)
        seen.append(outputs.summarizer_images.tolist()[0])
        best = outputs.selection_logits[0].topk(2).indices.sort().values.tolist()
    assert seen == [[0, 1], best]


def test_losses_without_a_teacher_are_an_error(make_trainer):
    trainer = make_trainer()
    with pytest.raises(ValueError, match="align_weight and distill_weight need a teacher"):
        SpectraTrainer(model=trainer.model, args=trainer.args, processing_class=trainer.processing_class)


def test_text_only_training_leaves_the_visual_path_alone(make_trainer):
    trainer = make_trainer("--use_images", "false", "--align_weight", "0", "--distill_weight", "0")
    start = parameters(trainer)
    trainer.train()
    moved = {name.split(".")[0] for name, value in parameters(trainer).items() if not torch.equal(start[name], value)}
    assert moved == {"language_model"}


@pytest.mark.parametrize(
    ("module", "part"),
    [("language_model.lm_head", "loss_lm"), ("visual_path.relevance_predictor", "loss_distill")],
)
def test_a_loss_that_is_no_number_ends_the_training_and_names_the_articles(make_trainer, records, module, part):
    trainer = make_trainer("--save_strategy", "steps", "--save_steps", "1")
    broken = trainer.base_model.get_submodule(module)
    # The second step of two meets a weight that overflowed; the checkpoint of the first one is there.
    seen = []

    def overflow(*arguments):
        seen.append(1)
        if len(seen) == 2:
            with torch.no_grad():
                next(broken.parameters()).fill_(math.nan)

    broken.register_forward_pre_hook(overflow)
    with pytest.raises(FloatingPointError, match=rf"{part} is nan.* after 1 steps") as caught:
        trainer.train()
    named = [record["id"] for record in records["train"] if record["id"] in str(caught.value)]
    assert len(named) == 2
    assert [path.name for path in Path(trainer.args.output_dir).glob("checkpoint-*")] == ["checkpoint-1"]


@pytest.mark.parametrize("max_grad_norm", ["1.0", "0"])
def test_a_gradient_that_is_no_number_is_not_applied_and_the_articles_are_named(make_trainer, records, max_grad_norm):
    saving = ("--save_strategy", "steps", "--save_steps", "1")
    trainer = make_trainer(*saving, "--gradient_accumulation_steps", "2", "--max_grad_norm", max_grad_norm)
    # The first of two micro-batches of the second step overflows in the backward pass alone.
    seen = []

    def overflow(gradient):
        seen.append(1)
        return gradient * math.inf if len(seen) == 3 else gradient

    trainer.base_model.visual_path.cross_attentions["1"].gate.alpha.register_hook(overflow)
    with pytest.raises(FloatingPointError, match=r"the gradient's norm is (inf|nan) after 1 steps") as caught:
        trainer.train()
    assert sum(record["id"] in str(caught.value) for record in records["train"]) == 4
    (checkpoint,) = Path(trainer.args.output_dir).glob("checkpoint-*")
    assert checkpoint.name == "checkpoint-1"
    saved, found = load_file(checkpoint / "model.safetensors"), trainer.model.state_dict()
    assert all(torch.equal(found[name], value) for name, value in saved.items())
    # Such a step of fp16 is left out by its scaler.
    trainer.accelerator.scaler = torch.amp.GradScaler("cpu")
    assert trainer._get_grad_norm(trainer.model, torch.tensor(math.inf)) == math.inf
