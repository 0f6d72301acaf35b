"""Predictions of a model for a whole split: in several processes, and resumable after a kill.

The split is cut into batches once and for all; a process takes every n-th batch that has no result yet and appends the
result to a file of its own, one line per batch. Whatever the number of processes and wherever a run was killed, a batch
holds the same articles, so that the predictions are the same.
"""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import torch
from accelerate import PartialState
from tqdm.auto import tqdm

from spectra_sum.atomic_write import write_text_atomically
from spectra_sum.models.loading import LoadedModel
from spectra_sum.records.article_images import UndecodedArticles
from spectra_sum.seeds import stable_seed
from spectra_sum.summaries.prediction import predict_summaries


def predict_resumably(
    loaded: LoadedModel,
    records: datasets.Dataset,
    folder: Path,
    *,
    batch_size: int,
    max_length: int,
    use_images: bool,
    seed: int,
    **generation: Any,
) -> list[dict[str, Any]]:
    """
    A model's predictions of all records, by [`predict_in_batches`].

    Args:
        loaded (`LoadedModel`): Model and processor; the model is moved to this process's device.
        records, folder, batch_size, seed: See [`predict_in_batches`].
        max_length, use_images, generation: See [`predict_summaries`].
    """
    model = loaded.model.to(PartialState().device)

    def predict(articles: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return predict_summaries(
            model,
            loaded.processor,
            articles,
            batch_size=batch_size,
            max_length=max_length,
            use_images=use_images,
            progress=False,
            **generation,
        )

    return predict_in_batches(predict, records, folder, batch_size=batch_size, seed=seed)


def predict_in_batches(
    predict: Callable[[list[dict[str, Any]]], list[dict[str, Any]]],
    records: datasets.Dataset,
    folder: Path,
    *,
    batch_size: int,
    seed: int,
) -> list[dict[str, Any]]:
    """
    Predicts all records, starting from what `folder` holds; every process returns all predictions in order.

    Args:
        predict (`Callable`): From a batch of articles, with their images undecoded, to their predictions.
        records (`Dataset`): Articles with the columns id, title, article and images.
        folder (`Path`): Where the finished batches are kept, one file per process. It must belong to these settings.
        batch_size (`int`): Articles per batch.
        seed (`int`): Seed of sampling; each batch starts from its own.
    """
    state = PartialState()
    starts, articles = range(0, len(records), batch_size), UndecodedArticles(records)
    if state.is_main_process:
        folder.mkdir(parents=True, exist_ok=True)
        _drop_torn_lines(folder)
    state.wait_for_everyone()
    finished = finished_batches(folder)
    waiting = [number for number in range(len(starts)) if number not in finished]
    # Nobody writes before everybody has read: all processes share out the same list.
    state.wait_for_everyone()
    own = waiting[state.process_index :: state.num_processes]
    resumed = len(starts) - len(waiting)
    bar = tqdm(total=len(waiting) + resumed, initial=resumed, desc="summaries", unit="batch", disable=_quiet(state))
    # A file of its own for every process of every run: whatever a killed launch left behind may still be writing.
    own_file = folder / f"process-{state.process_index}-{os.getpid()}.jsonl"
    with open(own_file, "a", encoding="utf-8") as file:
        for position, number in enumerate(own):
            torch.manual_seed(stable_seed(seed, number))
            rows = range(starts[number], min(starts[number] + batch_size, len(records)))
            started = time.perf_counter()
            predictions = predict([articles[row] for row in rows])
            line = {"batch": number, "predictions": predictions, "seconds": time.perf_counter() - started}
            print(json.dumps(line, ensure_ascii=False), file=file, flush=True)
            os.fsync(file.fileno())
            # The other processes keep pace: their batches count as this one's.
            bar.update(min(state.num_processes, len(waiting) - position * state.num_processes))
    bar.close()
    state.wait_for_everyone()
    batches = finished_batches(folder)
    return [prediction for number in range(len(starts)) for prediction in batches[number]]


def finished_batches(folder: Path) -> dict[int, list[dict[str, Any]]]:
    """The predictions of every finished batch, by the batch's number."""
    return {batch["batch"]: batch["predictions"] for batch in _lines(folder)}


def seconds_per_article(folder: Path) -> float | None:
    """How long the prediction of an article took on average, without the loading of the model; None where no batch tells."""
    timed = [batch for batch in _lines(folder) if "seconds" in batch]
    articles = sum(len(batch["predictions"]) for batch in timed)
    return sum(batch["seconds"] for batch in timed) / articles if articles else None


def _lines(folder: Path) -> list[dict[str, Any]]:
    # Not splitlines: a summary may hold one of Unicode's other line ends.
    texts = [path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.jsonl"))]
    return [json.loads(line) for text in texts for line in text.split("\n") if line]


def _drop_torn_lines(folder: Path) -> None:
    """Cut the last line of a file where the process was killed before its end."""
    for path in folder.glob("*.jsonl"):
        text = path.read_bytes()
        if text and not text.endswith(b"\n"):
            write_text_atomically(path, text[: text.rfind(b"\n") + 1].decode("utf-8"))


def _quiet(state: PartialState) -> bool | None:
    # None: no bar where standard error is no terminal.
    return None if state.is_main_process else True
