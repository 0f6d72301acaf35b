"""Long bodies as extracts, before training: what a small model reads at inference is what it learns to write from (§12)."""

import hashlib
import json
from pathlib import Path

import datasets
from accelerate import PartialState
from datasets import Dataset, DatasetDict
from tqdm.auto import tqdm
from transformers.utils import logging

from spectra_sum.extraction.extract import TRADE_OFF, extract
from spectra_sum.models.text_encoder import load_text_encoder

logger = logging.get_logger(__name__)


def word_count(text: str) -> int:
    """Words between white space, as the budget of an extract is counted here."""
    return len(text.split())


def select_bodies(splits: DatasetDict, text_encoder: str, words: int, folder: str | None = None) -> DatasetDict:
    """
    The articles with each body of more than `words` words replaced by its [`extract`].

    Embedding the sentences of a thousand long bodies takes half an hour on one core: finished extracts are kept, and an
    interrupted run goes on where it was.

    Args:
        splits (`DatasetDict`): Articles with the column `article`.
        text_encoder (`str`): As [`load_text_encoder`] takes it.
        words (`int`): Most words of a body.
        folder (`str`, *optional*): Where extracts are kept; by default the cache of `datasets`.

    Raises:
        ModelError: The sentence encoder cannot be loaded.
    """
    with PartialState().main_process_first():
        encoder = load_text_encoder(text_encoder)
        settings = json.dumps([encoder.name, encoder.revision, words, TRADE_OFF])
        place = Path(folder or datasets.config.HF_DATASETS_CACHE, "extracts")
        place.mkdir(parents=True, exist_ok=True)
        kept = place / f"{hashlib.sha256(settings.encode()).hexdigest()[:16]}.jsonl"
        extracts = _read(kept)
        long = {body for split in splits.values() for body in split["article"] if word_count(body) > words}
        logger.info(f"{len(long)} long bodies are replaced by extracts of at most {words} words, kept in {kept}")
        with kept.open("a", encoding="utf-8") as file:
            missing = sorted(body for body in long if _key(body) not in extracts)
            for body in tqdm(missing, desc="extracts", unit="article", disable=None):
                extracts[_key(body)] = extract(body, encoder, words, word_count, repetition=True).text
                print(json.dumps([_key(body), extracts[_key(body)]], ensure_ascii=False), file=file, flush=True)
    return DatasetDict({name: _replaced(split, extracts) for name, split in splits.items()})


def _replaced(split: Dataset, extracts: dict[str, str]) -> Dataset:
    bodies = [extracts.get(_key(body), body) for body in split["article"]]
    columns = split.column_names
    feature = split.features["article"]
    return split.remove_columns("article").add_column("article", bodies, feature=feature).select_columns(columns)


def _key(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()[:32]


def _read(file: Path) -> dict[str, str]:
    if not file.is_file():
        return {}
    data = file.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
        # The last line of a run that was killed.
        with file.open("r+b") as stream:
            stream.truncate(len(whole))
    return dict(json.loads(line) for line in whole.splitlines())
