"""The closed world's controlled experiment: one start, one budget, and variants that differ in one thing.

A world is a seed and a difficulty; its folder holds `articles`, `backbones`, `variants/NAME` and `logs`. Whatever is
complete there is kept.
"""

import json
import multiprocessing
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict, load_from_disk
from transformers import TrainerCallback
from transformers.trainer import TRAINER_STATE_NAME

from spectra_sum.evaluation.scores import coverage, score_predictions
from spectra_sum.metrics import load_metric
from spectra_sum.models.loading import LoadedModel
from trainer.building import build_teacher, build_trainer
from trainer.checkpoints.resuming import checkpoint_to_resume
from trainer.checkpoints.run_record import RUN_RECORD, write_run_record
from trainer.closed_world.backbones import (
    TextModelSettings,
    TokenizerSettings,
    siglip_settings,
    train_siglip,
    train_text_model,
    train_tokenizer,
)
from trainer.closed_world.image_selection import embed_articles, select_by_each, train_predictor
from trainer.closed_world.jobs import Job, print_into
from trainer.data import load_records
from trainer.train import count_articles, parse_arguments, write_json

CONFIG = Path(__file__).parents[1] / "configs" / "closed_world.yaml"
LM_ONLY = ("--align_weight", "0", "--distill_weight", "0")
NO_POOLED = ("--add_pooled_embedding", "false")
# What each variant changes in closed_world.yaml; the longest come first.
PAPER_VARIANTS = {
    "mm-dvp": (),
    "dvp": LM_ONLY,
    "dvp-no-pooled": (*NO_POOLED, *LM_ONLY),
    "mm-sampler": ("--fusion", "sampler"),
    "sampler": ("--fusion", "sampler", *LM_ONLY),
    "sampler-no-pooled": ("--fusion", "sampler", *NO_POOLED, *LM_ONLY),
    "mm-concat": ("--fusion", "concat"),
    "concat": ("--fusion", "concat", *LM_ONLY),
    "text-only": ("--use_images", "false", "--fusion", "sampler", *LM_ONLY),
}
# The field's other fusions (§10, §11), at the layers of the gates.
FIELD_VARIANTS = {
    "adapter": ("--fusion", "adapter", *LM_ONLY),
    "adapter-patches": ("--fusion", "adapter", "--adapter_reads", "patches", *LM_ONLY),
    "modulation": ("--fusion", "modulation", *LM_ONLY),
    "parameter-free": ("--fusion", "sampler", "--cross_attention", "parameter_free", "--keep_share", "0.5", *LM_ONLY),
    "tower-states": ("--fusion", "sampler", "--visual_states", "tower", *LM_ONLY),
    "deep-query": (
        *("--fusion", "sampler", "--feature_fusion", "query", "--vision_feature_layers", "1", "2"),
        *LM_ONLY,
    ),
    "kmeans": ("--fusion", "sampler", "--sampler_type", "kmeans", *LM_ONLY),
}
VARIANTS = PAPER_VARIANTS | FIELD_VARIANTS
SELECTION_COUNT = 2
JOINT_PREDICTOR = "vrp_joint"


@dataclass(frozen=True)
class Experiment:
    """One world and the budget of its variants.

    Args:
        output (`Path`): the world's folder.
        seed (`int`, *optional*, defaults to `0`): of the world, the backbones and the training.
        difficulty (`str`, *optional*, defaults to `"standard"`): the world's difficulty.
        articles (`int`, *optional*, defaults to `6000`): training articles.
        eval_articles (`int`, *optional*, defaults to `200`): validation and test articles, each.
        steps (`int`, *optional*): training steps of each variant; those of the config by default.
        backbone_steps (`int`, *optional*): training steps of each backbone; their own by default.
        predictor_articles (`int`, *optional*, defaults to `1500`): articles that train the predictors of every
            `vrp_context`.
        predictor_steps (`int`, *optional*, defaults to `400`): steps that train them.
        variant_steps (`Mapping[str, int]`, *optional*, defaults to `{}`): training steps of single variants, instead of
            `steps`.
    """

    output: Path
    seed: int = 0
    difficulty: str = "standard"
    articles: int = 6000
    eval_articles: int = 200
    steps: int | None = None
    backbone_steps: int | None = None
    predictor_articles: int = 1500
    predictor_steps: int = 400
    variant_steps: Mapping[str, int] = field(default_factory=dict)

    @property
    def backbones(self) -> Path:
        """The folder of tokenizer, SigLIP and text model."""
        return self.output / "backbones"

    def result(self, variant: str) -> Path:
        """The file that a finished variant leaves."""
        return self.output / "variants" / variant / "result.json"


class ReportShare(TrainerCallback):
    """Tells how much of the training is done."""

    def __init__(self, report: Callable[[float], None]):
        self.report = report

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.report(state.global_step / state.max_steps)


def arguments_of(name: str, experiment: Experiment) -> tuple:
    """The training arguments of a variant, as `trainer/train.py` would parse them."""
    folder = experiment.result(name).parent
    argv = ["--config", str(CONFIG), "--output_dir", str(folder), *VARIANTS[name]]
    argv += ["--vision_backbone", str(experiment.backbones / "siglip"), "--use_cpu", "true", "--disable_tqdm", "true"]
    argv += ["--text_backbone", str(experiment.backbones / "text"), "--seed", str(experiment.seed)]
    argv += ["--closed_world_articles", str(experiment.articles), "--closed_world_seed", str(experiment.seed)]
    argv += ["--closed_world_eval_articles", str(experiment.eval_articles)]
    argv += ["--closed_world_difficulty", experiment.difficulty]
    if steps := experiment.variant_steps.get(name, experiment.steps):
        argv += ["--max_steps", str(steps)]
    # Only a complete checkpoint: the Trainer writes this file last.
    if any(folder.glob("checkpoint-*/trainer_state.json")):
        argv += ["--resume_from_checkpoint", "latest"]
    return parse_arguments(argv)


def prepare_articles(experiment: Experiment) -> DatasetDict:
    """The world's articles, made once; every process reads them from disk."""
    folder = experiment.output / "articles"
    if not folder.is_dir():
        partial = experiment.output / "articles.partial"
        shutil.rmtree(partial, ignore_errors=True)
        load_records(arguments_of("dvp", experiment)[0]).save_to_disk(partial)
        partial.rename(folder)
    return load_from_disk(folder)


def make_siglip(experiment: Experiment) -> None:
    """The world's SigLIP; the tokenizer is made first if it is missing."""
    steps = {"steps": experiment.backbone_steps} if experiment.backbone_steps else {}
    settings = siglip_settings(experiment.seed, experiment.difficulty, **steps)
    train_siglip(experiment.backbones / "siglip", make_tokenizer(experiment), settings)


def make_text_model(experiment: Experiment) -> None:
    """The world's text model; the tokenizer is made first if it is missing."""
    steps = experiment.backbone_steps
    settings = TextModelSettings(seed=experiment.seed, **({"copy_steps": steps, "steps": steps} if steps else {}))
    train = prepare_articles(experiment)["train"]
    train_text_model(experiment.backbones / "text", make_tokenizer(experiment), train, settings)


def make_tokenizer(experiment: Experiment) -> Path:
    """The world's tokenizer."""
    settings = TokenizerSettings(seed=experiment.seed, difficulty=experiment.difficulty)
    return train_tokenizer(experiment.backbones / "tokenizer", settings)


def make_backbones(experiment: Experiment) -> None:
    """The small SigLIP, in a process of its own, beside the small text model."""
    make_tokenizer(experiment)
    log = experiment.output / "logs" / "siglip.log"

    def logged() -> None:
        print_into(log)
        make_siglip(experiment)

    siglip = multiprocessing.get_context("fork").Process(target=logged)
    siglip.start()
    make_text_model(experiment)
    siglip.join()
    if siglip.exitcode:
        raise RuntimeError(f"training the small SigLIP failed; see {log}")


def run_variant(name: str, experiment: Experiment, report: Callable[[float], None]) -> None:
    """Train and evaluate one variant; its model, log, predictions and scores end up in `variants/NAME`."""
    records = load_from_disk(experiment.output / "articles")
    data_args, architecture, args, model_args = arguments_of(name, experiment)
    trainer = build_trainer(data_args, architecture, args, model_args, records, [ReportShare(report)])
    checkpoint = checkpoint_to_resume(args)
    write_run_record(data_args, architecture, args, model_args, count_articles(trainer, records), checkpoint)
    started = time.perf_counter()
    trainer.train(resume_from_checkpoint=checkpoint)
    seconds = time.perf_counter() - started
    folder = Path(args.output_dir)
    trainer.save_model(str(folder / "model"))
    predictions = trainer.predict(records["test"]).articles
    model = trainer.base_model
    counted = model if data_args.use_images else model.language_model
    scores = score_predictions(predictions, records["test"])
    # The model is also used on its own: what a model card is made of lies beside it.
    shutil.copyfile(folder / RUN_RECORD, folder / "model" / RUN_RECORD)
    trainer.state.save_to_json(str(folder / "model" / TRAINER_STATE_NAME))
    write_json(folder / "model" / "metrics.json", {f"test_{name}": value for name, value in scores.items()})
    result = {
        "scores": scores,
        "seconds": seconds,
        "parameters": counted.num_parameters(),
        "log_history": trainer.state.log_history,
        "predictions": predictions,
    }
    write_json(experiment.result(name), result)
    for checkpoint in folder.glob("checkpoint-*"):
        shutil.rmtree(checkpoint)


def variant_job(name: str, experiment: Experiment, *, cost: float, prefix: str = "") -> Job:
    """The training of a variant as a job that needs the world's articles and backbones."""
    return Job(
        name=prefix + name,
        work=lambda report: run_variant(name, experiment, report),
        result=experiment.result(name),
        log=experiment.output / "logs" / f"{name}.log",
        cost=cost,
        needs=(experiment.output / "articles", experiment.backbones / "siglip", experiment.backbones / "text"),
    )


def select_images(loaded: LoadedModel, experiment: Experiment, records: DatasetDict) -> dict[str, list[list[int]]]:
    """Every way to select images, on the test articles: the indices of the selected ones per article, best first.

    One predictor per `vrp_context` is trained here, on the same cached embeddings and alike; `vrp_joint` is the model's own,
    trained with all losses.
    """
    model, processor = loaded.model, loaded.processor
    teacher = build_teacher(str(experiment.backbones / "siglip"), model.config, model.device)
    max_length = arguments_of("mm-dvp", experiment)[0].max_length
    test = embed_articles(model, processor, teacher, records["test"], max_length=max_length)
    train = records["train"].select(range(min(experiment.predictor_articles, len(records["train"]))))
    embedded = embed_articles(model, processor, teacher, train, max_length=max_length)
    predictors = {JOINT_PREDICTOR: model.visual_path.relevance_predictor}
    for vrp_context in ("none", "article", "article_set"):
        fields = {"vrp_context": vrp_context, "vrp_image_texts": False}
        config = type(model.config).from_dict({**model.config.to_dict(), **fields})
        predictors[f"vrp_{vrp_context}"] = train_predictor(
            config, embedded, steps=experiment.predictor_steps, seed=experiment.seed
        )
    return select_by_each(predictors, test, count=SELECTION_COUNT, seed=experiment.seed)


def score_selections(selections: dict[str, list[list[int]]], test: Dataset) -> dict[str, dict[str, float]]:
    """Image precision and coverage of every way to select."""
    gold, captions = test["gold_images"], test["captions"]
    metric = load_metric("image_precision")
    return {
        name: {
            "image_precision": metric.compute(predictions=selected, references=gold)["image_precision"],
            "coverage": coverage(selected, captions, gold),
        }
        for name, selected in selections.items()
    }


def check_same_settings(output: Path, settings: dict[str, Any]) -> None:
    """Keep a folder to one set of settings: what is there was made with the ones written beside it.

    Raises:
        SystemExit: naming the settings, when the folder was made with others.
    """
    file = output / "settings.json"
    if file.is_file() and json.loads(file.read_text()) != settings:
        raise SystemExit(
            f"{output} was made with other settings ({file.read_text().strip()}); choose another --output."
        )
    write_json(file, settings)
