"""`evaluate()` and `predict()`: what is summed up, what users' functions get, and every kind of set."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict
from safetensors.torch import load_file
from torch.utils.data import IterableDataset, Subset
from transformers import EarlyStoppingCallback, EvalPrediction, TrainerCallback
from transformers.trainer_utils import PredictionOutput

from spectra_sum.errors import SpectraSumError
from spectra_sum.msmo.closed_world import closed_world_dataset
from spectra_sum.records.article_images import UndecodedArticles
from tests.double_precision import double_precision
from tests.forked_process import LAUNCHER, run
from tests.trainer.training_setup import save_setup, setup_arguments
from trainer.building import trainer_parts
from trainer.collator import SummarizationCollator
from trainer.spectra_trainer import FOR_THE_LOSSES, SpectraTrainer
from trainer.train import parse_arguments

ROOT = Path(__file__).parents[3]
MEASURED = ("runtime", "per_second", "preparation_time")
# In two processes: a stream of five articles in batches of two, and articles without summaries.
IN_TWO_PROCESSES = """
import json, sys
from pathlib import Path
from tests.double_precision import double_precision
from tests.trainer.evaluation.test_generating import Stream, articles_of, comparable, make_trainer, without_summaries

if __name__ == "__main__":
    with double_precision():
        folder = Path(sys.argv[1])
        trainer, articles = make_trainer(folder, "two"), articles_of(5)
        metrics = trainer.evaluate(Stream(articles))
        output = trainer.predict(without_summaries(articles[:3]))
    if trainer.is_world_process_zero():
        result = {"metrics": comparable(metrics), "articles": output.articles, "tokens": output.predictions.tolist()}
        (folder / "two.json").write_text(json.dumps(result))
"""


class Stream(IterableDataset):
    def __init__(self, articles: list[dict]):
        self.articles = articles

    def __iter__(self):
        yield from self.articles


def records_of(articles: int) -> DatasetDict:
    return closed_world_dataset({"train": 8, "validation": articles, "test": 2}, seed=5)


def articles_of(count: int) -> list[dict]:
    """Articles of several lengths, the third of them without images, and therefore without gold images."""
    articles = list(records_of(count)["validation"])
    articles[1]["summary"] = articles[1]["summary"][:1]
    if count > 2:
        articles[2].update(images=[], gold_images=[])
    return articles


def without_summaries(articles: list[dict]) -> list[dict]:
    return [{name: article[name] for name in ("id", "title", "article", "images")} for article in articles]


def make_trainer(folder: Path, output: str, *argv: str, **kwargs) -> SpectraTrainer:
    arguments = setup_arguments(folder, folder / output, *argv)
    data_args, architecture, args, model_args = parse_arguments(arguments)
    parts = trainer_parts(data_args, architecture, args, model_args, records_of(5))
    return SpectraTrainer(args=args, **{**parts, **kwargs})


def comparable(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if not any(part in name for part in MEASURED)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    with double_precision():
        return save_setup(tmp_path_factory.mktemp("evaluation"), {"dtype": "auto", "align_weight": 0.3})


@pytest.fixture(scope="module")
def trainer(folder) -> SpectraTrainer:
    with double_precision():
        return make_trainer(folder, "run")


@pytest.fixture(scope="module")
def articles() -> list[dict]:
    return articles_of(5)


def test_the_losses_are_those_of_all_tokens_and_articles_in_batches_of_any_size(trainer, articles, monkeypatch):
    monkeypatch.setattr(trainer.args, "predict_with_generate", False)
    found = {}
    with double_precision():
        for size in (1, 2, 3, 5):
            monkeypatch.setattr(trainer.args, "per_device_eval_batch_size", size)
            metrics = comparable(trainer.evaluate(articles))
            found[size] = {name: value for name, value in metrics.items() if "loss" in name}
        tokens, naive = [], []
        for article in articles:
            batch = trainer.data_collator([article])
            inputs = {name: value for name, value in batch.items() if name not in FOR_THE_LOSSES}
            with torch.no_grad():
                log_probabilities = trainer.model.eval()(**inputs).logits[0, :-1].log_softmax(-1)
            targets = inputs["labels"][0, 1:]
            places = (targets != -100).nonzero()[:, 0]
            own = -log_probabilities[places, targets[places]]
            tokens.append(own)
            naive.append(own.mean().item())
    by_hand = torch.cat(tokens).mean().item()
    assert found[1].keys() == {"eval_loss", "eval_loss_lm", "eval_loss_align", "eval_loss_distill"}
    # Articles of different lengths: the mean of their means is another number.
    assert abs(np.mean(naive) - by_hand) > 1e-4
    for metrics in found.values():
        assert metrics == pytest.approx(found[5], rel=1e-9)
        assert metrics["eval_loss_lm"] == pytest.approx(by_hand, rel=1e-9)
        weights = trainer.base_model.config.align_weight, trainer.base_model.config.distill_weight
        extra = weights[0] * metrics["eval_loss_align"] + weights[1] * metrics["eval_loss_distill"]
        assert metrics["eval_loss"] == pytest.approx(by_hand + extra, rel=1e-9)


def test_every_kind_of_set_gives_the_same(trainer):
    dataset = trainer.eval_dataset
    expected = comparable(trainer.evaluate())
    assert {"eval_loss", "eval_rouge1", "eval_image_precision", "eval_visual_facts_trend"} <= expected.keys()
    articles = list(dataset)
    sets = {
        "list": articles,
        "subset": Subset([*articles, articles[0]], range(5)),
        "stream": Stream(articles),
        "datasets stream": dataset.to_iterable_dataset(num_shards=2),
    }
    for name, articles in sets.items():
        assert comparable(trainer.evaluate(articles)) == expected, name


def test_a_stream_is_read_once_whatever_the_workers(trainer, monkeypatch):
    articles = list(trainer.eval_dataset)
    monkeypatch.setattr(trainer.args, "dataloader_num_workers", 2)
    output = trainer.predict(Stream(articles))
    assert [article["id"] for article in output.articles] == [article["id"] for article in articles]


def test_a_broken_image_of_a_subset_ends_no_evaluation(trainer):
    dataset = trainer.eval_dataset
    articles = UndecodedArticles(dataset)
    rows = [articles[0], articles[1]]
    rows[0]["images"][0] = {"bytes": rows[0]["images"][0]["bytes"][:40], "path": None}
    broken = Dataset.from_list(rows, features=dataset.features)
    with pytest.raises(OSError):
        broken[0]
    output = trainer.predict(Subset(broken, [1, 0]))
    assert [article["id"] for article in output.articles] == [rows[1]["id"], rows[0]["id"]]


def test_several_sets_are_told_apart_by_their_names(trainer, articles):
    metrics = trainer.evaluate({"some": articles[:2], "others": articles[3:]})
    alone = trainer.evaluate(articles[3:])
    assert metrics["eval_others_loss"] == alone["eval_loss"] != metrics["eval_some_loss"]
    assert metrics["eval_others_rougeL"] == alone["eval_rougeL"]


def generated(trainer: SpectraTrainer, article: dict) -> str:
    """By transformers' own calls on one article."""
    processor, model = trainer.processing_class, trainer.base_model
    inputs = processor(text=[article["article"]], title=[article["title"]], images=[article["images"]], max_length=400)
    tokens = model.generate(**inputs, max_new_tokens=8, do_sample=False)
    return processor.tokenizer.decode(tokens[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip()


def test_predict_returns_the_summaries_of_every_article_in_order(trainer, articles):
    output = trainer.predict(articles)
    predictions, label_ids, metrics = output
    assert isinstance(output, PredictionOutput)
    assert predictions.shape == (5, 8)
    decoded = trainer.processing_class.batch_decode(predictions, skip_special_tokens=True)
    with double_precision():
        expected = [generated(trainer, article) for article in articles]
    assert [text.strip() for text in decoded] == [article["summary"] for article in output.articles] == expected
    assert len(set(expected)) > 1
    assert [article["id"] for article in output.articles] == [article["id"] for article in articles]
    assert output.articles[2]["selected"] == [] and len(output.articles[0]["selected"]) == 2
    references = trainer.processing_class.batch_decode(
        np.where(label_ids == -100, trainer.processing_class.tokenizer.pad_token_id, label_ids),
        skip_special_tokens=True,
    )
    assert [text.strip() for text in references] == [" ".join(article["summary"]) for article in articles]
    assert {"test_loss", "test_rouge1", "test_image_precision"} <= metrics.keys()
    assert all(name.startswith("test_") for name in metrics)
    assert trainer.predict(articles[:2], metric_key_prefix="valid").metrics.keys() >= {"valid_loss", "valid_rougeL"}


def test_predict_needs_no_summaries_and_evaluate_does(trainer, articles):
    output = trainer.predict(without_summaries(articles))
    assert output.articles == trainer.predict(articles).articles
    assert output.label_ids is None
    assert comparable(output.metrics) == {}
    with pytest.raises(
        SpectraSumError, match="the set to evaluate on: its articles lack summary; they have id, title"
    ):
        trainer.evaluate(without_summaries(articles))
    mixed = [*articles[:1], *without_summaries(articles[1:2])]
    with pytest.raises(
        ValueError, match=f"article {articles[1]['id']} has no summary, and others of its set have one"
    ):
        trainer.predict(mixed)
    with pytest.raises(SpectraSumError, match="some articles of the set have a summary and some have none"):
        trainer.predict([*articles[:2], *without_summaries(articles[:2])])


def test_predict_writes_summaries_also_where_evaluate_does_not(trainer, articles, monkeypatch):
    monkeypatch.setattr(trainer.args, "predict_with_generate", False)
    assert "eval_rouge1" not in trainer.evaluate(articles[:2])
    assert "test_rouge1" in trainer.predict(articles[:2]).metrics


def test_metrics_and_preprocessing_get_the_tokens_of_summaries(folder, articles):
    seen, batches = [], []

    def preprocess(tokens: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        batches.append((tuple(tokens.shape), tuple(labels.shape)))
        return tokens[:, :3]

    def compute(prediction: EvalPrediction) -> dict[str, float]:
        seen.append(prediction)
        return {"first": float(prediction.predictions[0, 0]), "rouge1": 7.0}

    with double_precision():
        trainer = make_trainer(folder, "functions", compute_metrics=compute, preprocess_logits_for_metrics=preprocess)
        metrics = trainer.evaluate(articles)
        tokens = trainer.predict(articles).predictions
    assert tokens.shape == (5, 3)
    (first, _) = seen
    assert np.array_equal(first.predictions, tokens)
    lengths = [len(trainer.processing_class._summary_ids(" ".join(article["summary"]))) for article in articles]
    assert first.label_ids.shape == (5, max(lengths))
    assert [(row != -100).sum() for row in first.label_ids] == lengths
    assert batches[0][0] == (2, 8) and batches[2][0] == (1, 8)
    assert metrics["eval_first"] == tokens[0, 0]
    # The user's own wins over the score of the same name, but the loss is the loss.
    assert metrics["eval_rouge1"] == 7.0 and metrics["eval_loss"] > metrics["eval_loss_lm"] > 0


def test_metrics_by_batches(folder, articles):
    """As of the Trainer: the function adds up what it gets, and is asked for the result with the last batch."""
    sums = []

    def compute(prediction: EvalPrediction, compute_result: bool) -> dict[str, float]:
        sums.append(len(prediction.predictions))
        return {"articles": float(sum(sums))} if compute_result else {}

    with double_precision():
        trainer = make_trainer(folder, "by_batches", "--batch_eval_metrics", "true", compute_metrics=compute)
        assert trainer.evaluate(articles)["eval_articles"] == 5
    assert sums == [2, 2, 1]


class Metrics(TrainerCallback):
    def __init__(self):
        self.seen = []

    def on_evaluate(self, args, state, control, metrics, **kwargs):
        self.seen.append(metrics)


def test_the_best_model_by_the_users_metric_is_loaded_and_callbacks_get_it(folder):
    values = iter([3.0, 9.0, 1.0])
    callback = Metrics()
    with double_precision():
        trainer = make_trainer(
            folder,
            "best",
            *("--max_steps", "3", "--eval_strategy", "steps", "--eval_steps", "1", "--save_strategy", "steps"),
            *("--save_steps", "1", "--load_best_model_at_end", "true", "--metric_for_best_model", "liked"),
            *("--greater_is_better", "true"),
            compute_metrics=lambda prediction: {"liked": next(values)},
            callbacks=[callback, EarlyStoppingCallback(3)],
        )
        trainer.train()
    assert [metrics["eval_liked"] for metrics in callback.seen] == [3.0, 9.0, 1.0]
    assert all("eval_rougeLsum" in metrics for metrics in callback.seen)
    assert (trainer.state.best_metric, trainer.state.best_global_step) == (9.0, 2)
    saved = load_file(folder / "best" / "checkpoint-2" / "model.safetensors")
    found = trainer.model.state_dict()
    assert all(torch.equal(found[name], value) for name, value in saved.items())


def test_how_training_makes_batches_is_no_matter_of_evaluation(folder, articles):
    """No article is left out, and their order is the set's."""
    records = records_of(5)
    lengths = [len(article) for article in records["train"]["article"]]
    with double_precision():
        trainer = make_trainer(
            folder,
            "batches",
            *("--dataloader_drop_last", "true", "--train_sampling_strategy", "group_by_length", "--max_steps", "1"),
            train_dataset=records["train"].add_column("length", lengths),
        )
        trainer.train()
        output = trainer.predict(articles)
    assert trainer.state.global_step == 1
    assert [article["id"] for article in output.articles] == [article["id"] for article in articles]


def test_workers_that_stay_are_those_of_their_own_set(folder, articles):
    workers = ("--dataloader_num_workers", "1", "--dataloader_persistent_workers", "true")
    trainer = make_trainer(folder, "workers", *workers, eval_dataset={"all": articles, "some": articles[:2]})
    loaders = {name: trainer.get_eval_dataloader(name) for name in ("all", "some")}
    assert {name: len(loader.dataset) for name, loader in loaders.items()} == {"all": 5, "some": 2}
    assert trainer.get_eval_dataloader("all") is loaders["all"]
    trainer = make_trainer(folder, "workers", *workers)
    own = trainer.get_eval_dataloader()
    assert len(trainer.get_eval_dataloader(articles[:1]).dataset) == 1
    assert trainer.get_eval_dataloader() is own and len(own.dataset) == 5


def test_training_on_a_stream_and_with_the_default_collator(folder, articles):
    with double_precision():
        trainer = make_trainer(
            folder, "stream", train_dataset=Stream(articles), data_collator=None, eval_max_length=300
        )
        assert isinstance(trainer.data_collator, SummarizationCollator) and trainer.data_collator.max_length == 300
        trainer.train()
    assert trainer.state.global_step == 2


def test_a_stream_in_two_processes_counts_every_article_once(folder, trainer, articles):
    (folder / "two.py").write_text(IN_TWO_PROCESSES)
    config = str(ROOT / "trainer" / "configs" / "accelerate" / "ddp.yaml")
    command = [*LAUNCHER, "--config_file", config, "--num_processes", "2", str(folder / "two.py"), str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    done = run(command, folder, environment)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((folder / "two.json").read_text())
    with double_precision():
        assert found["metrics"] == pytest.approx(comparable(trainer.evaluate(articles)), rel=1e-9)
        alone = trainer.predict(without_summaries(articles[:3]))
    assert found["tokens"] == alone.predictions.tolist()
    assert [article["summary"] for article in found["articles"]] == [article["summary"] for article in alone.articles]
