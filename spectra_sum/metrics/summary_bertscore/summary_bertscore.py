"""BERTScore of summaries by the `bert_score` library, as an `evaluate` module."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import datasets
import evaluate
from bert_score import BERTScorer
from bert_score.utils import model2layers

_DESCRIPTION = """
BERTScore (Zhang et al., "BERTScore: Evaluating Text Generation with BERT", ICLR 2020) by the `bert_score` library:
precision = mean over the summary's tokens of the largest cosine to a token of the reference, recall the reverse,
F1 = 2PR / (P + R), on the hidden states of one layer. No idf weights and no rescaling with a baseline: these are raw
values, in [-1, 1] and for a trained model mostly in [0.8, 1]; rescaled ones are lower and not comparable.
A summary without a token scores 0, is counted, and never reaches the library; an article whose reference has no token is
left out and counted. A text longer than the model takes is cut at its end, and counted.
Ties (two tokens with the same cosine) do not matter: only the largest value counts.
"""
_CITATION = """
@inproceedings{zhang2020bertscore,
    title = {BERTScore: Evaluating Text Generation with BERT},
    author = {Zhang, Tianyi and Kishore, Varsha and Wu, Felix and Weinberger, Kilian Q. and Artzi, Yoav},
    booktitle = {International Conference on Learning Representations}, year = {2020}}
"""
_KWARGS_DESCRIPTION = """
Args:
    predictions (`list[str]`): The summaries; `""` where empty.
    references (`list[str]`): One reference per summary; `""` where there is none.
    model (`str`, *optional*, defaults to `"roberta-large"`): Folder or Hub id of an encoder, of which only safetensors are
        read and no code is run. The default is the library's for English.
    num_layers (`int`, *optional*): The layer whose hidden states are compared, from 1. By default the library's choice for
        the models in its table, which are Hub ids; for any other model, and for every folder, the last layer.
    batch_size (`int`, *optional*, defaults to `1`): Texts per forward pass. With 1 an article's score does not depend on the
        others; with more it does in the last digits, and a token whose cosines are all negative counts as 0 wherever the
        library pads its text. More is faster on a GPU.
    device (`str`, *optional*): Where the model runs; by default on the GPU if there is one.
    per_example (`bool`, *optional*, defaults to `False`): Whether to return each article's scores as well.

Returns:
    `bertscore_precision`, `bertscore_recall`, `bertscore_f1`: means over the articles; `articles`: how many were averaged;
    `articles_without_reference`: how many were left out, as their reference has no token; `empty_predictions`: how many of
    the averaged ones have no token, and so score 0;
    `predictions_cut`, `references_cut`: how many texts were longer than the model takes; `num_layers`: the layer used;
    `hashcode`: the library's description of the setting; `per_example` (on demand): per score one value per article, None
    where it was left out.

Raises:
    ValueError: when a summary or reference is None; when no article has a reference, so that there is nothing to average;
        when the model cannot be loaded, comes without safetensors or with incomplete ones (a pooler, which BERTScore does
        not use, may be missing), or has not that many layers; when neither the model nor its tokenizer states a longest input.
"""

SCORES = ("bertscore_precision", "bertscore_recall", "bertscore_f1")
T5_TYPES = ("t5", "mt5", "umt5")


def load_scorer(model: str, num_layers: int | None, device: str | None) -> BERTScorer:
    """The library's scorer of `model` at layer `num_layers`, its tokenizer cutting at what the model takes.

    Raises:
        ValueError: as described for the metric.
    """
    from transformers import AutoConfig, AutoTokenizer

    with _named(model):
        config = AutoConfig.from_pretrained(model, trust_remote_code=False)
    # The library goes by the name: with "t5" in it the weights are read as a T5 (and drawn at random where they are not),
    # and what begins with "scibert" is fetched from an address of its own.
    if ("t5" in model and config.model_type not in T5_TYPES) or model.startswith("scibert"):
        raise ValueError(
            f"summary_bertscore: the bert_score library mistakes {model!r} for another model because of its name; give a "
            'path that neither contains "t5" nor begins with "scibert".'
        )
    layers = config.num_hidden_layers
    if num_layers is None:
        num_layers = model2layers.get(model, layers)
    if not 1 <= num_layers <= layers:
        raise ValueError(f"summary_bertscore: num_layers is 1 to {layers} for {model!r}, not {num_layers}.")
    with _named(model):
        check_weights(model)
        # The library itself would ask on the terminal whether to run a tokenizer's code.
        AutoTokenizer.from_pretrained(model, trust_remote_code=False)
    scorer = BERTScorer(model_type=model, num_layers=num_layers, device=device)
    scorer._tokenizer.model_max_length = longest_input(scorer)
    return scorer


@contextmanager
def _named(model: str) -> Iterator[None]:
    """Gives the errors of transformers at loading the model's name and the fix."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise ValueError(
            f"summary_bertscore: the model {model!r} could not be loaded; give the folder of an encoder or a Hub id that "
            "can be reached, with its weights whole in safetensors and without code of its own. "
            f"{str(error).splitlines()[0]}"
        ) from error


def check_weights(model: str) -> None:
    """Loads the model as the library does thereafter, which by itself would read pickles and draw missing weights.

    With safetensors there, they are what the library reads as well.

    Raises:
        OSError: there are no safetensors.
        ValueError: the model brings code of its own, or weights other than the pooler's are missing.
    """
    from transformers import AutoModel, T5EncoderModel

    loader = T5EncoderModel if "t5" in model else AutoModel
    _, report = loader.from_pretrained(model, use_safetensors=True, trust_remote_code=False, output_loading_info=True)
    lacking = sorted(name for name in report["missing_keys"] if not name.startswith("pooler."))
    if lacking:
        raise ValueError(f"The weights lack {len(lacking)} tensors, {lacking[0]} among them.")


def longest_input(scorer: BERTScorer) -> int:
    """Tokens that the scorer's model takes, special ones included: the smaller of its positions and its tokenizer's limit.

    A tokenizer saved without a limit states an absurdly large one, which the library hands on: an overflow in the
    tokenizer, or positions that the model does not have.

    Raises:
        ValueError: when there is no limit at all.
    """
    from torch.nn import Embedding

    limits = [scorer._tokenizer.model_max_length]
    if "max_position_embeddings" in scorer._model.config.to_dict():
        limits.append(scorer._model.config.max_position_embeddings)
    for name, module in scorer._model.named_modules():
        # RoBERTa and its kin count positions from behind the padding index.
        is_table = isinstance(module, Embedding) and name.endswith("position_embeddings")
        if is_table and module.padding_idx is not None:
            limits.append(module.num_embeddings - module.padding_idx - 1)
    if min(limits) > 1_000_000:
        raise ValueError(
            f"summary_bertscore: neither the model {scorer.model_type!r} nor its tokenizer states a longest input; set "
            "`model_max_length` in its tokenizer_config.json."
        )
    return min(limits)


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class SummaryBertscore(evaluate.Metric):
    """BERTScore of summaries, averaged over the articles."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features(
                {"predictions": datasets.Value("string"), "references": datasets.Value("string")}
            ),
        )

    def add_batch(self, *, predictions: Sequence[str], references: Sequence[str]) -> None:
        """Add a batch of predictions and references."""
        for argument, values in (("predictions", predictions), ("references", references)):
            for index, value in enumerate(values):
                if value is None:
                    raise ValueError(
                        f"summary_bertscore: {argument} of article {index} is None; give an empty text if it is empty."
                    )
        super().add_batch(predictions=predictions, references=references)

    def _compute(
        self,
        predictions: list[str],
        references: list[str],
        model: str = "roberta-large",
        num_layers: int | None = None,
        batch_size: int = 1,
        device: str | None = None,
        per_example: bool = False,
    ) -> dict[str, object]:
        if batch_size < 1:
            raise ValueError(f"summary_bertscore: batch_size is 1 or more, not {batch_size}.")
        scorer = load_scorer(model, num_layers, device)
        tokenizer = scorer._tokenizer
        longest = tokenizer.model_max_length - tokenizer.num_special_tokens_to_add()
        # Stripped as the library strips them. Counting tokens of a long text makes the tokenizer warn; here it is counted.
        lengths = [
            [len(tokenizer.encode(text.strip(), add_special_tokens=False, verbose=False)) for text in texts]
            for texts in (predictions, references)
        ]
        averaged = [index for index, length in enumerate(lengths[1]) if length]
        if not averaged:
            raise ValueError(
                f"summary_bertscore: none of the {len(references)} articles has a reference with text; there is nothing to "
                "average over."
            )
        scored = [index for index in averaged if lengths[0][index]]
        rows = {index: [0.0, 0.0, 0.0] for index in averaged}
        if scored:
            columns = scorer.score(
                [predictions[index] for index in scored],
                [references[index] for index in scored],
                batch_size=batch_size,
            )
            rows.update(
                zip(scored, map(list, zip(*(column.tolist() for column in columns), strict=True)), strict=True)
            )
        result: dict[str, object] = {
            score: sum(row[column] for row in rows.values()) / len(rows) for column, score in enumerate(SCORES)
        }
        result["articles"] = len(averaged)
        result["articles_without_reference"] = len(references) - len(averaged)
        result["empty_predictions"] = len(averaged) - len(scored)
        result["predictions_cut"] = sum(lengths[0][index] > longest for index in averaged)
        result["references_cut"] = sum(lengths[1][index] > longest for index in averaged)
        result["num_layers"] = scorer.num_layers
        result["hashcode"] = scorer.hash
        if per_example:
            result["per_example"] = {
                score: [rows[index][column] if index in rows else None for index in range(len(references))]
                for column, score in enumerate(SCORES)
            }
        return result
