"""The `multimodal-summarization` pipeline of transformers: articles in, summaries with selected images out."""

import math
import os
from collections.abc import Iterable, Mapping
from numbers import Integral, Real
from typing import Any

from PIL import Image
from torch.utils.data import Dataset, IterableDataset
from transformers import BatchFeature, Pipeline, PreTrainedModel
from transformers.generation.streamers import BaseStreamer
from transformers.utils import logging

from .image_inputs import FETCH_TIMEOUT, IMAGE_ERRORS, open_image
from .processing_spectra import SpectraSumProcessor
from .summarization import MAX_LENGTH, generate_summaries, prepare_articles, sentence_evidence, text_length_limit

logger = logging.get_logger(__name__)


class MultimodalSummarizationPipeline(Pipeline):
    """Summarizes articles with images: the text, the images that belong to the summary, and what each sentence read.

    ```python
    summarizer = pipeline("multimodal-summarization", model="FOLDER_OR_HUB_ID", trust_remote_code=True)
    summarizer({"text": "…", "images": ["harbour.jpg", "https://example.org/bridge.png"]})
    ```

    Every option of a call may also be given to `pipeline(…)`, where it becomes the default.

    Args:
        model (`SpectraSumForConditionalGeneration`): The model; it is put into evaluation mode.
        processor (`SpectraSumProcessor`): Its processor.
        kwargs: Further arguments of [`Pipeline`], such as `device` and `batch_size`.

    Raises:
        ValueError: without a processor.
    """

    _load_processor = True
    _load_tokenizer = False
    _load_image_processor = False
    _load_video_processor = False
    _load_feature_extractor = False

    def __init__(self, model: PreTrainedModel, processor: SpectraSumProcessor | None = None, **kwargs: Any):
        if processor is None:
            raise ValueError("the pipeline needs the model's processor: pass processor=….")
        super().__init__(model, processor=processor, **kwargs)
        self.model.eval()

    def __call__(self, inputs: Mapping[str, Any] | Iterable[Mapping[str, Any]], **options: Any) -> Any:
        """Summarize an article or several.

        Args:
            inputs (`dict`, or a list, dataset or generator of them):
                `"text"` (`str`), the article's body; `"images"` (`list`, *optional*), each a PIL image, a path, a URL,
                which is fetched, or a file's content in base64, also as a `data:image/` URI; `"title"` (`str`,
                *optional*); `"captions"` (`list[str]`, *optional*), one per image, `""` or None for none, which models read
                whose configuration says so (`captions`, `vrp_image_texts`). A dataset is whatever has a length and items
                by number, such as one of `torch`, of `datasets`, or a `KeyDataset`.
            max_new_tokens (`int`, *optional*, defaults to `128`): Most tokens of a summary.
            num_beams (`int`, *optional*, defaults to `1`): Beams of the search; 1 is greedy. Nothing is sampled.
            threshold (`float`, *optional*): Least probability of a selected image.
            max_length (`int`, *optional*, defaults to `2048`):
                Most text tokens of the prompt (§8); fewer where the model has no positions for more. Only the body is
                cut, after the lines of its captions, and a warning counts what was.
            return_evidence (`bool`, *optional*, defaults to `False`): Adds `"evidence"`.
            streamer (`BaseStreamer`, *optional*): Is given the tokens as `generate` writes them, prompt first: such as a
                `TextIteratorStreamer(processor.tokenizer, skip_prompt=True, skip_special_tokens=True)`. It follows one
                article at a time, without beams.
            timeout (`float`, *optional*, defaults to `30.0`): Seconds to wait for an image that is fetched.
            batch_size (`int`, *optional*, defaults to `1`): Articles that go through the model together.
            num_workers (`int`, *optional*, defaults to `0`): Processes that load images.

        Returns:
            `dict`, or a list (for a dataset or generator an iterator) of them:

            - `"summary_text"` (`str`);
            - `"selected_images"`: `{"index": int, "probability": float}` of the images that belong to the summary, most
              probable first; an index counts `"images"` from 0;
            - `"image_probabilities"`: p̂ (§4) of each image, `None` for those beyond `max_candidate_images` (of model
              or processor, the smaller one), which are not read;
            - with `return_evidence`, `"evidence"`: per sentence of the summary `{"sentence": str, "image_weights":
              list}`, the share of its tokens' gated cross-attention that went to each image, `None` for images that
              the summarizer did not see. An empty list where there is none: no images, or no open gates.

        Raises:
            ValueError: for an article of another form, an image that cannot be read, or a title that leaves no room
                for the body; the message names the article and the image. Also for an option out of its range, and for a
                streamer of batches or beams.
            TypeError: for an unknown option.
        """
        self._check_streamer(isinstance(inputs, Mapping), options)
        if isinstance(inputs, Mapping):
            return super().__call__(_checked(inputs, "the article"), **options)
        if isinstance(inputs, str | bytes) or not (_is_map_style(inputs) or isinstance(inputs, Iterable)):
            raise ValueError(f'an article is a dict with "text" and "images", not {type(inputs).__name__}.')
        if _is_map_style(inputs) and not isinstance(inputs, list | tuple):
            return super().__call__(_CheckedArticles(inputs), **options)
        articles = (_checked(article, f"article {index}") for index, article in enumerate(inputs))
        if isinstance(inputs, list | tuple):
            # All of them are checked before the first is summarized.
            articles = list(articles)
            return super().__call__(articles, **options) if articles else []
        return super().__call__(articles, **options)

    def _sanitize_parameters(
        self,
        max_new_tokens: int | None = None,
        num_beams: int | None = None,
        threshold: float | None = None,
        max_length: int | None = None,
        return_evidence: bool | None = None,
        timeout: float | None = None,
        streamer: BaseStreamer | None = None,
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        lengths = {"max_new_tokens": max_new_tokens, "max_length": max_length}
        for name, value in {**lengths, "num_beams": num_beams}.items():
            if value is not None and (isinstance(value, bool) or not isinstance(value, Integral) or value < 1):
                raise ValueError(f"{name} must be a whole number from 1, not {value!r}.")
        for name, value in {"threshold": threshold, "timeout": timeout}.items():
            if value is not None and (isinstance(value, bool) or not isinstance(value, Real) or math.isnan(value)):
                raise ValueError(f"{name} must be a number, not {value!r}.")
        if timeout is not None and timeout <= 0:
            raise ValueError(f"timeout must be more than 0 seconds, not {timeout!r}.")
        if not isinstance(streamer, BaseStreamer | None):
            raise ValueError(f"streamer must be a streamer of transformers, not {type(streamer).__name__}.")
        preprocess = {**lengths, "timeout": timeout}
        forward = {**lengths, "num_beams": num_beams, "threshold": threshold, "return_evidence": return_evidence}
        forward["streamer"] = streamer
        given = ({name: value for name, value in step.items() if value is not None} for step in (preprocess, forward))
        return *given, {}

    def _check_streamer(self, single: bool, options: Mapping[str, Any]) -> None:
        """Before any work: whether what is asked for can be streamed."""
        given = {**self._forward_params, **{name: value for name, value in options.items() if value is not None}}
        if given.get("streamer") is None:
            return
        beams, batch = given.get("num_beams") or 1, given.get("batch_size") or self._batch_size or 1
        if beams != 1:
            raise ValueError(f"a streamer follows no beams; leave num_beams ({beams}) at 1, or the streamer out.")
        if batch != 1 and not single:
            raise ValueError(
                f"a streamer follows one article at a time; leave batch_size ({batch}) at 1, or the streamer out."
            )

    def preprocess(
        self,
        article: dict[str, Any],
        max_new_tokens: int = 128,
        max_length: int = MAX_LENGTH,
        timeout: float = FETCH_TIMEOUT,
    ) -> dict[str, Any]:
        """A checked article → the same with its images loaded; only as many as the model scores."""
        name = article["name"]
        limit = text_length_limit(self.model, self.processor, len(article["images"]), max_new_tokens, max_length)
        if self.processor.room_for_body(article["title"], max_length=limit) < 1:
            raise ValueError(
                f"{name}: title, max_length ({max_length}) and max_new_tokens ({max_new_tokens}) leave no room for the "
                f"text within {limit} tokens; shorten the title or change them."
            )
        images = []
        scored = min(self.model.config.max_candidate_images, self.processor.max_candidate_images)
        for index, image in enumerate(article["images"][:scored]):
            try:
                images.append(open_image(image, timeout))
            except IMAGE_ERRORS as error:
                shown = repr(image)[:200]
                raise ValueError(f"{name}: image {index} ({shown}) cannot be read: {str(error)[:200]}") from error
        # No tensors: they are made per batch, where the articles' lengths and numbers of images are known.
        captions = article["captions"][: scored if images else None]
        return {**article, "images": images, "captions": captions, "num_images": len(article["images"])}

    def _forward(
        self,
        articles: dict[str, Any],
        max_new_tokens: int = 128,
        num_beams: int = 1,
        threshold: float | None = None,
        max_length: int = MAX_LENGTH,
        return_evidence: bool = False,
        streamer: BaseStreamer | None = None,
    ) -> dict[str, list[dict[str, Any]]]:
        """One article, or the columns of a batch of them → their results."""
        if isinstance(articles["name"], str):
            articles = {key: [value] for key, value in articles.items()}
        inputs, read = prepare_articles(
            self.model,
            self.processor,
            articles["text"],
            articles["title"],
            articles["images"],
            max_new_tokens,
            max_length,
            captions=articles["captions"],
        )
        summaries = generate_summaries(
            self.model, self.processor.tokenizer, inputs, max_new_tokens, num_beams, streamer=streamer
        )
        selection = self.model.select_images(**inputs, threshold=threshold)
        results = []
        for row, (summary, selected) in enumerate(zip(summaries, selection.indices, strict=True)):
            name, images, num_images = (articles[key][row] for key in ("name", "images", "num_images"))
            if read[row].cut:
                logger.warning(f"{name}: the last {read[row].cut} of its {read[row].whole} text tokens were not read.")
            if not summary.ended:
                logger.warning(f"{name}: the summary was stopped at max_new_tokens ({max_new_tokens}).")
            probabilities = selection.probabilities[row, : len(images)].tolist()
            result = {
                "summary_text": summary.text.strip(),
                "selected_images": [{"index": index, "probability": probabilities[index]} for index in selected],
                "image_probabilities": probabilities + [None] * (num_images - len(images)),
            }
            if return_evidence:
                own = BatchFeature({key: value[row : row + 1] for key, value in inputs.items()})
                entries = sentence_evidence(self.model, self.processor.tokenizer, own, summary, num_images)
                result["evidence"] = [{"sentence": text, "image_weights": weights} for text, weights in entries]
            results.append(result)
        return {"results": results}

    def postprocess(self, outputs: dict[str, Any]) -> dict[str, Any]:
        """The result of one article, which comes alone from a batch and in a list of one without batching."""
        results = outputs["results"]
        return results[0] if isinstance(results, list) else results

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs: Any) -> None:
        """Save model, processor and code: a folder that `pipeline` loads with `trust_remote_code=True`."""
        self.model.save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory, **kwargs)


class _CheckedArticles(Dataset):
    """The articles of a map-style dataset, checked as they are read."""

    def __init__(self, articles: Any):
        self.articles = articles

    def __len__(self) -> int:
        return len(self.articles)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return _checked(self.articles[index], f"article {index}")


def _is_map_style(inputs: Any) -> bool:
    # An IterableDataset inherits a `__getitem__` that only raises.
    return hasattr(inputs, "__len__") and hasattr(inputs, "__getitem__") and not isinstance(inputs, IterableDataset)


def _checked(article: Any, name: str) -> dict[str, Any]:
    """The article with all fields and its name, without anything loaded."""
    if not isinstance(article, Mapping):
        raise ValueError(f'{name} must be a dict with "text" and "images", not {type(article).__name__}.')
    unknown = sorted(map(str, set(article) - {"text", "images", "title", "captions"}))
    if unknown:
        raise ValueError(
            f'{name} has unknown keys {unknown}; an article has "text", "images", "title" and "captions".'
        )
    if not isinstance(article.get("text"), str):
        raise ValueError(f'{name}: "text" must be a string, not {type(article.get("text")).__name__}.')
    title, images = article.get("title"), article.get("images")
    if not isinstance(title, str | None):
        raise ValueError(f'{name}: "title" must be a string, not {type(title).__name__}.')
    if not isinstance(images, list | tuple | None):
        raise ValueError(f'{name}: "images" must be a list, not {type(images).__name__}.')
    for index, image in enumerate(images or ()):
        if not isinstance(image, Image.Image | str | os.PathLike):
            raise ValueError(
                f"{name}: image {index} must be a PIL image, a path or a URL, not {type(image).__name__}."
            )
    captions = article.get("captions")
    if not isinstance(captions, list | tuple | None) or not all(
        isinstance(each, str | None) for each in captions or ()
    ):
        raise ValueError(f'{name}: "captions" must be a list of strings, one per image.')
    if images and captions and len(images) != len(captions):
        raise ValueError(f'{name}: it has {len(images)} images and {len(captions)} "captions"; give one per image.')
    return {
        "text": article["text"],
        "title": title or "",
        "images": list(images or ()),
        "captions": [caption or "" for caption in captions or ()],
        "name": name,
    }


__all__ = ["MultimodalSummarizationPipeline"]
