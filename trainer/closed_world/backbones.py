"""The demo's small backbones, trained from scratch on the closed world: a tokenizer, a SigLIP and a language model.

They stand in for pretrained backbones where no model hub can be reached. Each function writes one folder that the Auto
classes load, by way of a temporary folder that is renamed at the end: an interrupted run leaves no half-written model,
and a folder that is there already, trained with the same settings, is kept as it is.

The models are so small that a second thread slows them down: call `torch.set_num_threads(1)` first.
"""

import dataclasses
import json
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from torch.nn.functional import logsigmoid, normalize
from tqdm.auto import tqdm
from transformers import (
    AutoTokenizer,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2Tokenizer,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
)

from modeling_spectra import SpectraSumProcessor
from modeling_spectra.processing_spectra import PLAIN_PROMPT
from spectra_sum.errors import SpectraSumError
from spectra_sum.msmo.closed_world import caption_pairs, generate_articles
from spectra_sum.msmo.closed_world_images import SIZE
from spectra_sum.summaries.remarks import CLOSED_WORLD_ENTRY

PAD_TOKEN, EOS_TOKEN, IMAGE_TOKEN = "<pad>", "<eos>", "<image>"
SIGLIP_STEPS = {"standard": 240, "far": 240, "paired": 240, "thin": 480, "counts": 480}
_SOURCES = ("text", "image")
_SETTINGS_FILE = "training_settings.json"


@dataclasses.dataclass(frozen=True)
class TokenizerSettings:
    """Settings of `train_tokenizer`.

    Args:
        seed (`int`, *optional*, defaults to `0`): the closed world's seed.
        difficulty (`str`, *optional*, defaults to `"standard"`): the closed world's difficulty.
        articles (`int`, *optional*, defaults to `2000`): number of training articles read.
        vocab_size (`int`, *optional*, defaults to `880`): upper bound on the number of tokens, the 256 bytes and three
            special tokens included; with the default each word of the closed world becomes one token.
    """

    seed: int = 0
    difficulty: str = "standard"
    articles: int = 2000
    vocab_size: int = 880


@dataclasses.dataclass(frozen=True)
class SiglipSettings:
    """Settings of `train_siglip`.

    Args:
        seed (`int`, *optional*, defaults to `0`): the closed world's seed, and that of the initial weights.
        difficulty (`str`, *optional*, defaults to `"standard"`): the closed world's difficulty.
        steps (`int`, *optional*, defaults to `240`): optimizer steps.
        batch_size (`int`, *optional*, defaults to `64`): image-caption pairs per step; every pair is used once.
        learning_rate (`float`, *optional*, defaults to `5e-4`): peak of the one-cycle schedule.
        logit_learning_rate_factor (`float`, *optional*, defaults to `10.0`): factor on the rate of logit scale and
            bias.
        logit_scale (`float`, *optional*, defaults to `20.0`): initial factor on the cosines.
        logit_bias (`float`, *optional*, defaults to `-8.0`): initial bias of the logits.
        hidden_size (`int`, *optional*, defaults to `128`): width of both towers.
        layers (`int`, *optional*, defaults to `2`): depth of both towers.
        patch_size (`int`, *optional*, defaults to `12`): side of a square patch in pixels.
        text_length (`int`, *optional*, defaults to `16`): tokens that the text tower reads; texts are padded to it.
    """

    seed: int = 0
    difficulty: str = "standard"
    steps: int = 240
    batch_size: int = 64
    learning_rate: float = 5e-4
    logit_learning_rate_factor: float = 10.0
    logit_scale: float = 20.0
    logit_bias: float = -8.0
    hidden_size: int = 128
    layers: int = 2
    patch_size: int = 12
    text_length: int = 16


def siglip_settings(seed: int, difficulty: str, **others: int) -> SiglipSettings:
    """The settings that the closed world's SigLIP needs at a difficulty: more steps for what is harder to see."""
    return SiglipSettings(seed=seed, difficulty=difficulty, **{"steps": SIGLIP_STEPS[difficulty], **others})


@dataclasses.dataclass(frozen=True)
class TextModelSettings:
    """Settings of `train_text_model`.

    Args:
        seed (`int`, *optional*, defaults to `0`): seed of the initial weights and of the articles' order.
        copy_steps (`int`, *optional*, defaults to `250`): steps on articles cut down to their facts: learning to copy.
        copy_learning_rate (`float`, *optional*, defaults to `3e-3`): peak of their one-cycle schedule.
        steps (`int`, *optional*, defaults to `150`): steps on the whole articles after that.
        learning_rate (`float`, *optional*, defaults to `2e-3`): peak of their one-cycle schedule.
        batch_size (`int`, *optional*, defaults to `8`): articles per step.
        hidden_size (`int`, *optional*, defaults to `128`): width.
        layers (`int`, *optional*, defaults to `3`): depth.
        heads (`int`, *optional*, defaults to `4`): attention heads.
        initializer_range (`float`, *optional*, defaults to `0.06`): standard deviation of the initial weights. The
            usual 0.02 suits wide models; at width 128 the model then needs many times the steps before it copies.
    """

    seed: int = 0
    copy_steps: int = 250
    copy_learning_rate: float = 3e-3
    steps: int = 150
    learning_rate: float = 2e-3
    batch_size: int = 8
    hidden_size: int = 128
    layers: int = 3
    heads: int = 4
    initializer_range: float = 0.06


def train_tokenizer(output: Path, settings: TokenizerSettings = TokenizerSettings()) -> Path:
    """Trains a byte-level BPE on the closed world's training text and saves it as a `Qwen2Tokenizer`.

    Args:
        output (`Path`): the folder to write; kept if it is complete.

    Returns:
        `Path`: `output`.
    """
    with _new_folder(output, settings) as folder:
        if folder is not None:
            world = {"seed": settings.seed, "difficulty": settings.difficulty}
            articles = generate_articles(settings.articles, split="train", with_images=False, **world)
            untrained = Qwen2Tokenizer(
                unk_token=EOS_TOKEN, eos_token=EOS_TOKEN, pad_token=PAD_TOKEN, extra_special_tokens=[IMAGE_TOKEN]
            )
            tokenizer = untrained.train_new_from_iterator(
                ([text] for article in articles for text in _texts(article)), settings.vocab_size, show_progress=False
            )
            # Goes with every model that is built on it: what it writes must not be taken for more than it is.
            tokenizer.init_kwargs[CLOSED_WORLD_ENTRY] = world
            tokenizer.save_pretrained(folder)
    return output


def train_siglip(output: Path, tokenizer: Path, settings: SiglipSettings = SiglipSettings()) -> Path:
    """Trains a small `SiglipModel` on `caption_pairs` and saves it with its image processor and tokenizer.

    The loss is SigLIP's sigmoid loss, except that all pairs of one meaning are positives of each other.

    Args:
        output (`Path`): the folder to write; kept if it is complete.
        tokenizer (`Path`): the folder of `train_tokenizer`. The saved copy has `text_length` as its maximum and
            returns no attention mask: like any SigLIP, the model reads texts padded to one length, so call it with
            ``padding="max_length", truncation=True``.

    Returns:
        `Path`: `output`.
    """
    with _new_folder(output, settings) as folder:
        if folder is not None:
            torch.manual_seed(settings.seed)
            text_tokenizer = AutoTokenizer.from_pretrained(
                tokenizer, model_max_length=settings.text_length, model_input_names=["input_ids"]
            )
            model = SiglipModel(_siglip_config(text_tokenizer, settings)).train()
            with torch.no_grad():
                model.logit_scale.fill_(np.log(settings.logit_scale))
                model.logit_bias.fill_(settings.logit_bias)
            image_processor = SiglipImageProcessorPil(
                size={"height": SIZE, "width": SIZE}, image_mean=[0.5] * 3, image_std=[0.5] * 3
            )
            _fit_siglip(model, text_tokenizer, settings)
            for part in (model, text_tokenizer, image_processor):
                part.save_pretrained(folder)
    return output


def train_text_model(
    output: Path, tokenizer: Path, articles: Dataset, settings: TextModelSettings = TextModelSettings()
) -> Path:
    """Trains a small text-only `Qwen2ForCausalLM` to copy facts, then to summarize, and saves it with its tokenizer.

    Args:
        output (`Path`): the folder to write; kept if it is complete.
        tokenizer (`Path`): the folder of `train_tokenizer`.
        articles (`Dataset`): training articles with the columns title, article, summary and facts, as made by
            `spectra_sum.msmo.closed_world.closed_world_dataset`.

    Returns:
        `Path`: `output`.
    """
    with _new_folder(output, settings) as folder:
        if folder is not None:
            torch.manual_seed(settings.seed)
            text_tokenizer = AutoTokenizer.from_pretrained(tokenizer)
            model = Qwen2ForCausalLM(_text_config(text_tokenizer, settings)).train()
            # The very processor of the whole model, so that both meet the same tokens.
            processor = SpectraSumProcessor(SiglipImageProcessorPil(), text_tokenizer)
            rows = articles.select_columns(["title", "article", "summary", "facts"]).to_list()
            for name, texts, steps, learning_rate in (
                ("copying", [_facts_only(row) for row in rows], settings.copy_steps, settings.copy_learning_rate),
                ("text summarizer", rows, settings.steps, settings.learning_rate),
            ):
                batches = _article_batches(texts, processor, settings.batch_size)
                _fit_text(model, batches, steps, learning_rate, name)
            for part in (model, text_tokenizer):
                part.save_pretrained(folder)
    return output


@contextmanager
def _new_folder(output: Path, settings: object) -> Iterator[Path | None]:
    """Yields a temporary folder that becomes `output` on success, or None where `output` is complete."""
    wanted = dataclasses.asdict(settings)
    if output.exists():
        found = output / _SETTINGS_FILE
        if not found.is_file() or json.loads(found.read_text()) != wanted:
            raise SpectraSumError(
                f"{output} exists and was not made with the settings {wanted}: remove it to train anew."
            )
        yield None
        return
    temporary = output.with_name(output.name + ".partial")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    yield temporary
    (temporary / _SETTINGS_FILE).write_text(json.dumps(wanted, indent=2))
    temporary.rename(output)


def _texts(article: dict) -> Iterable[str]:
    # The sentences once more on their own: so the SigLIP reads them, without a space before the first word.
    prompt = PLAIN_PROMPT.format(title=article["title"], body=article["article"])
    return [prompt, " " + " ".join(article["summary"]), *article["summary"]]


def _siglip_config(tokenizer: Qwen2Tokenizer, settings: SiglipSettings) -> SiglipConfig:
    tower = {
        "hidden_size": settings.hidden_size,
        "intermediate_size": 2 * settings.hidden_size,
        "num_hidden_layers": settings.layers,
        "num_attention_heads": 4,
    }
    return SiglipConfig(
        vision_config={
            **tower,
            "image_size": SIZE,
            "patch_size": settings.patch_size,
        },
        text_config={
            **tower,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": settings.text_length,
            "pad_token_id": tokenizer.pad_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "bos_token_id": None,
        },
    )


def _text_config(tokenizer: Qwen2Tokenizer, settings: TextModelSettings) -> Qwen2Config:
    return Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=settings.hidden_size,
        intermediate_size=2 * settings.hidden_size,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.heads,
        max_position_embeddings=4096,
        initializer_range=settings.initializer_range,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )


def _fit_siglip(model: SiglipModel, tokenizer: Qwen2Tokenizer, settings: SiglipSettings) -> None:
    scalars = [model.logit_scale, model.logit_bias]
    towers = [*model.vision_model.parameters(), *model.text_model.parameters()]
    rates = [settings.learning_rate, settings.learning_rate * settings.logit_learning_rate_factor]
    optimizer = torch.optim.AdamW([{"params": towers}, {"params": scalars, "weight_decay": 0.0}], betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, total_steps=settings.steps + 1)
    pairs = caption_pairs(
        settings.steps * settings.batch_size, seed=settings.seed, split="train", difficulty=settings.difficulty
    )
    captions: dict[int, str] = {}
    with tqdm(total=settings.steps, desc="SigLIP", unit="step") as progress:
        for _ in range(settings.steps):
            images, meanings = [], []
            for _ in range(settings.batch_size):
                image, caption, meaning = next(pairs)
                images.append(np.asarray(image))
                meanings.append(meaning)
                captions[meaning] = caption
            loss = _siglip_loss(model, tokenizer, np.stack(images), torch.tensor(meanings), captions)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            progress.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
            progress.update()


def _siglip_loss(
    model: SiglipModel,
    tokenizer: Qwen2Tokenizer,
    images: np.ndarray,
    meanings: torch.Tensor,
    captions: dict[int, str],
) -> torch.Tensor:
    # A batch repeats a few captions: each is encoded once.
    distinct, position = meanings.unique(return_inverse=True)
    texts = [captions[meaning] for meaning in distinct.tolist()]
    input_ids = tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt")["input_ids"]
    pixel_values = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
    image_embeds = normalize(model.get_image_features(pixel_values).pooler_output, dim=-1)
    text_embeds = normalize(model.get_text_features(input_ids).pooler_output, dim=-1)[position]
    logits = image_embeds @ text_embeds.T * model.logit_scale.exp() + model.logit_bias
    signs = torch.where(meanings[:, None] == meanings[None, :], 1.0, -1.0)
    return -logsigmoid(signs * logits).sum(dim=-1).mean()


def _facts_only(article: dict) -> dict:
    """The article without the sentences that name no fact, and its summary without the visual facts.

    On whole articles the model finds the facts one after the other, each after a plateau; these short ones, in which
    nothing is left to chance, teach it all of them within a fraction of the time.
    """
    values = {source: {fact["value"] for fact in article["facts"] if fact["source"] == source} for source in _SOURCES}
    untold = values["text"].difference(article["title"].split())
    body = [sentence for sentence in article["article"].split(". ") if untold & set(sentence.rstrip(".").split())]
    summary = [sentence for sentence in article["summary"] if not any(map(sentence.count, values["image"]))]
    return {"title": article["title"], "article": ". ".join(body).rstrip(".") + ".", "summary": summary}


def _article_batches(
    articles: list[dict], processor: SpectraSumProcessor, batch_size: int
) -> Iterator[dict[str, torch.Tensor]]:
    while True:
        for indices in torch.randperm(len(articles)).split(batch_size):
            rows = [articles[index] for index in indices.tolist()]
            batch = processor(
                text=[row["article"] for row in rows],
                title=[row["title"] for row in rows],
                summary=[" ".join(row["summary"]) for row in rows],
            )
            yield {name: batch[name] for name in ("input_ids", "attention_mask", "labels")}


def _fit_text(
    model: Qwen2ForCausalLM,
    batches: Iterator[dict[str, torch.Tensor]],
    steps: int,
    learning_rate: float,
    name: str,
) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps + 1)
    with tqdm(total=steps, desc=name, unit="step") as progress:
        for _ in range(steps):
            loss = model(**next(batches)).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            progress.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
            progress.update()
