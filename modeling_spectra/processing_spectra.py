"""Processor: articles and their images → the tensors of [`SpectraSumForConditionalGeneration`]."""

import copy
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

import torch
from PIL import Image, ImageOps
from transformers import BatchFeature, PreTrainedTokenizerBase
from transformers.processing_utils import ProcessorMixin
from transformers.utils import TensorType, logging

from .article_arguments import caption_rows, image_rows, texts_of
from .article_messages import articles_of
from .article_prompt import CHAT_PROMPT, PLAIN_PROMPT, ArticlePromptMixin, check_prompt_template
from .image_inputs import FETCH_TIMEOUT, to_rgb
from .image_texts import image_text_tensors
from .prompt_options import PromptOptions
from .query_text import QueryTextMixin

logger = logging.get_logger(__name__)


class SpectraSumProcessor(QueryTextMixin, ArticlePromptMixin, ProcessorMixin):
    r"""Image processor and tokenizer of SPeCTrA-Sum.

    Args:
        image_processor (`BaseImageProcessor`): Of the vision tower.
        tokenizer (`PreTrainedTokenizerBase`):
            Of the language model; it needs an end token and a padding token. It pads on the left from here on, as
            prompts are padded.
        chat_template (`str`, *optional*): Jinja template of the chat format; without it the prompt is plain text.
        prompt_template (`str`, *optional*):
            The instruction, with `{title}` and then `{body}` once: the user's message when there is a chat template,
            otherwise the whole prompt. Defaults to a plain sentence asking for a summary.
        image_token (`str`, *optional*, defaults to `"<image>"`): Placeholder of a visual token.
        num_image_tokens (`int`, *optional*, defaults to `0`):
            Placeholders per image: 0 for the gated variants, patches + 1 for `fusion="concat"`.
        max_images (`int`, *optional*, defaults to `5`): Most images that the summarizer sees.
        max_candidate_images (`int`, *optional*, defaults to `20`): Most images of an article that are scored.
        pad_to_square (`bool`, *optional*, defaults to `False`):
            Put each image in the middle of a square of the image processor's mean colour, as LLaVA-OneVision does with
            several images, instead of leaving it to the image processor to stretch it.
        images_first (`bool`, *optional*, defaults to `False`):
            Put the placeholders where the chat template puts images, for LLaVA-OneVision in front of a line break and
            the instruction, and split the prompt into tokens as one text, which gives its own processor's token ids.
            Otherwise they stand right before the title.
        captions (`str`, *optional*, defaults to `"none"`):
            `"prompt"` writes a line `Figure N: caption` behind the body for each image that the summarizer sees and that has a
            caption, `"none"` does not.
        image_text_length (`int`, *optional*, defaults to `0`):
            Most tokens of an image's caption that a relevance predictor with `vrp_image_texts` reads; 0 for other predictors.
        images_before_start (`bool`, *optional*, defaults to `False`):
            Put the placeholders before the whole prompt and its start token, as InstructBLIP does.
        qformer_tokenizer (`PreTrainedTokenizerBase`, *optional*):
            Of a Q-Former that reads the prompt's text, saved in a folder of this name beside the processor's files.
        qformer_text_length (`int`, *optional*, defaults to `0`): Most tokens of that text; 0 for other samplers.
    """

    default_image_token = "<image>"
    _auto_class = "AutoProcessor"

    def __init__(
        self,
        image_processor: Any = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
        chat_template: str | None = None,
        prompt_template: str | None = None,
        image_token: str = default_image_token,
        num_image_tokens: int = 0,
        max_images: int = 5,
        max_candidate_images: int = 20,
        pad_to_square: bool = False,
        images_first: bool = False,
        captions: Literal["none", "prompt"] = "none",
        image_text_length: int = 0,
        images_before_start: bool = False,
        qformer_tokenizer: PreTrainedTokenizerBase | None = None,
        qformer_text_length: int = 0,
    ):
        self.prompt_template = prompt_template or (CHAT_PROMPT if chat_template else PLAIN_PROMPT)
        check_prompt_template(self.prompt_template)
        if captions not in ("none", "prompt"):
            raise ValueError(f'captions must be "none" or "prompt", not {captions!r}.')
        if tokenizer.eos_token is None or tokenizer.pad_token is None:
            raise ValueError("the tokenizer needs an eos_token and a pad_token; set both before making the processor.")
        if num_image_tokens and tokenizer.convert_tokens_to_ids(image_token) in (None, tokenizer.unk_token_id):
            raise ValueError(
                f"image_token {image_token!r} is unknown to the tokenizer; add it as a special token first."
            )
        # Pipelines of transformers pad the prompts of a batch by it.
        tokenizer.padding_side = "left"
        self.image_token = image_token
        self.num_image_tokens = num_image_tokens
        self.max_images = max_images
        self.max_candidate_images = max_candidate_images
        self.pad_to_square = pad_to_square
        self.images_first = images_first
        self.captions = captions
        self.image_text_length = image_text_length
        self.images_before_start = images_before_start
        self.qformer_tokenizer = qformer_tokenizer
        self.qformer_text_length = qformer_text_length
        super().__init__(image_processor, tokenizer, chat_template=chat_template)

    @property
    def model_input_names(self) -> list[str]:
        texts = ["image_text_ids", "image_text_mask"] if self.image_text_length else []
        query = ["qformer_input_ids", "qformer_attention_mask"] if self.qformer_text_length else []
        return ["input_ids", "attention_mask", "article_mask", "pixel_values", "image_mask", *texts, *query]

    @property
    def reads_captions(self) -> bool:
        """Whether captions change anything: they are written into the prompt, or read by the relevance predictor."""
        return self.captions == "prompt" or self.image_text_length > 0

    def __call__(
        self,
        text: str | Sequence[str] | None = None,
        images: Any = None,
        title: str | Sequence[str | None] | None = None,
        summary: str | Sequence[str] | None = None,
        fetch_images: bool = False,
        captions: Any = None,
        **options: Any,
    ) -> BatchFeature:
        """Prepare a batch of articles.

        Args:
            text (`str` or `list[str]`): The articles' bodies.
            images (`list`, *optional*):
                Per article a list of its images, a single one, or None; for a single article also just that. An image
                is a PIL image, a path, base64 (also as a `data:image/` URI), or an array, see [`open_image`].
                They are made upright and RGB, transparency over white, and reduced to 1024 pixels a side.
                Of more than `max_candidate_images` the first ones are kept, with a warning that counts the rest.
            title (`str` or `list[str]`, *optional*): The articles' titles; None for none.
            summary (`str` or `list[str]`, *optional*): Reference summaries, for training.
            fetch_images (`bool`, *optional*, defaults to `False`):
                Fetch images that are given as `http(s)://` addresses, which are refused otherwise.
            captions (`list`, *optional*):
                Per article a list with a caption (`str`) per image, `""` or None for none, or None; for a single article also
                just its list. Without images there may be any number of them. They are read where the processor's options
                `captions` and `image_text_length` say so. In the prompt they are those of the first `max_images` images
                (without images all), each on one line, numbered by the image's place from 1.
            max_length (`int` or `list[int]`, *optional*, defaults to `2048`):
                Most text tokens of prompt and summary together, visual placeholders not counted; of all articles, or
                one entry per article.
            truncation (`bool` or `str`, *optional*, defaults to `True`):
                Cut to `max_length`, and of the prompt only caption lines, the last one first, and when there is none left, the
                body's end: title, instruction, images and summary stay.
            padding (`bool` or `str`, *optional*, defaults to `True`):
                `True` or `"longest"` pads to the longest row, `"max_length"` to `max_length` and the placeholders of
                `max_images` images, `False` not at all.
            pad_to_multiple_of (`int`, *optional*): Pad further, to a multiple of it.
            add_special_tokens (`bool`, *optional*, defaults to `True`):
                Open a plain prompt with the tokenizer's start token, where it has one; a chat template writes its own.
                The end token of a summary stays: it is what the model learns to stop at.
            return_tensors (`str`, *optional*, defaults to `"pt"`):
                `"pt"` for tensors, `"np"` for arrays, `None` for lists (of arrays for `pixel_values`).
            text_kwargs, common_kwargs (`dict`, *optional*): The same options, as transformers groups them.

        Returns:
            `input_ids`, `attention_mask` and `article_mask` (B, T), the last one true on title and body, not on caption lines;
            with images `pixel_values` (B, N, 3, H, W) and `image_mask` (B, N), and where the relevance predictor reads captions
            and there are any, `image_text_ids` and `image_text_mask` (B, N, S); for a Q-Former that reads text
            `qformer_input_ids` and `qformer_attention_mask` (B, S); with summaries `labels` (B, T), −100 except on the summary
            and its end token. Prompts are padded on the left, prompts with a summary on the right.

        Raises:
            ValueError: for an entry that is missing or of another kind, lists of different lengths, unreadable images, a
                `max_length` without room for a body, or an option that the prompt cannot follow; the message names it.
            TypeError: for an unknown option.
        """
        checked = PromptOptions.read(options)
        checked.check_padding_side("left" if summary is None else "right")
        if text is None:
            raise ValueError("text is missing: pass the article's body (it may be an empty string).")
        single = isinstance(text, str)
        text = texts_of("text", text, None)
        count = len(text)
        title = (
            [entry or "" for entry in texts_of("title", title, count, optional=True)] if title is not None else None
        )
        summary = texts_of("summary", summary, count) if summary is not None else None
        images = image_rows(images, count, single)
        captions = caption_rows(captions, [len(row) for row in images], single)
        limits = checked.limits(count)
        kept = [row[: self.max_candidate_images] for row in images]
        dropped = sum(map(len, images)) - sum(map(len, kept))
        if dropped:
            logger.warning(f"{dropped} images beyond max_candidate_images={self.max_candidate_images} are not scored.")

        rows = []
        for index in range(count):
            summary_ids = self._summary_ids(summary[index]) if summary is not None else []
            prompt = self._prompt(
                text[index],
                title[index] if title is not None else "",
                len(kept[index]),
                captions[index],
                limits[index] - len(summary_ids) if checked.cuts else None,
                name=f"article {index}",
                add_special_tokens=checked.add_special_tokens is not False,
            )
            rows.append((prompt.ids, prompt.article, summary_ids))
        most = max(limits) + self._placed_images(self.max_images) * self.num_image_tokens
        widths = checked.widths([len(prompt) + len(summary_ids) for prompt, _, summary_ids in rows], most)
        data = self._padded(rows, widths, pad_left=summary is None)
        if summary is None:
            del data["labels"]
        data.update(self.query_inputs(text, title))
        if any(kept):
            pixel_values, image_mask = self._pixels(kept, FETCH_TIMEOUT if fetch_images else None)
            data["pixel_values"] = pixel_values
            data["image_mask"] = image_mask.tolist()
            if checked.return_tensors != TensorType.PYTORCH:
                data["pixel_values"] = list(pixel_values.numpy())
            shown = [row[: len(scored)] for row, scored in zip(captions, kept, strict=True)]
            texts = self.image_texts(shown, image_mask.shape[1])
            data.update({name: values.tolist() for name, values in texts.items()})
        return BatchFeature(data, tensor_type=checked.return_tensors)

    def image_texts(self, captions: Sequence[Sequence[str]], num_images: int) -> dict[str, torch.Tensor]:
        """What the relevance predictor reads of captions.

        Args:
            captions (`list[list[str]]`): Of each of B articles one per image, or none.
            num_images (`int`): Most images of an article in the batch (N).

        Returns:
            `image_text_ids` and `image_text_mask` (B, N, S); nothing where the predictor reads none, and without any caption.
        """
        if not self.image_text_length:
            return {}
        rows = [[*row, *[""] * (num_images - len(row))] for row in captions]
        encode = partial(self._encode, literal=True)
        return image_text_tensors(rows, encode, self.image_text_length, self.tokenizer.pad_token_id)

    def _padded(
        self, rows: list[tuple[list[int], list[int], list[int]]], widths: list[int], pad_left: bool
    ) -> dict[str, list[list[int]]]:
        data = {"input_ids": [], "attention_mask": [], "article_mask": [], "labels": []}
        for (prompt, article, summary), width in zip(rows, widths, strict=True):
            size = len(prompt) + len(summary)
            values = {
                "input_ids": (prompt + summary, self.tokenizer.pad_token_id),
                "attention_mask": ([1] * size, 0),
                "article_mask": ([bool(own) for own in article] + [False] * len(summary), False),
                "labels": ([-100] * len(prompt) + summary, -100),
            }
            for name, (row, fill) in values.items():
                padding = [fill] * (width - size)
                data[name].append(padding + row if pad_left else row + padding)
        return data

    def _pixels(self, images: list[list[Any]], timeout: float | None) -> tuple[torch.Tensor, torch.Tensor]:
        flat = []
        for article, row in enumerate(images):
            for index, image in enumerate(row):
                try:
                    rgb = to_rgb(image, timeout)
                except ValueError as error:
                    raise ValueError(f"article {article}: image {index}: {error}") from error
                flat.append(_squared(rgb, self.image_processor.image_mean) if self.pad_to_square else rgb)
        pixels = self.image_processor(flat, return_tensors="pt")["pixel_values"]
        image_mask = torch.zeros(len(images), max(map(len, images)), dtype=torch.bool)
        for index, row in enumerate(images):
            image_mask[index, : len(row)] = True
        pixel_values = pixels.new_zeros(*image_mask.shape, *pixels.shape[1:])
        pixel_values[image_mask] = pixels
        return pixel_values, image_mask

    def apply_chat_template(
        self,
        conversation: Sequence[Any],
        chat_template: str | None = None,
        tools: Sequence[Any] | None = None,
        documents: Sequence[Any] | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool | str = False,
        return_assistant_tokens_mask: bool = False,
        tokenize: bool = False,
        return_tensors: str | TensorType | None = "auto",
        return_dict: bool = False,
        load_audio_from_video: bool = False,
        processor_kwargs: Mapping[str, Any] | None = None,
        sanitize_control_tokens: bool = True,
        **kwargs: Any,
    ) -> Any:
        """A conversation of one user message, read as an article, or a list of them.

        What [`SpectraSumProcessor.__call__`] makes of the same article: the message's texts, joined by an empty line, are
        the body, and its images the images, in order. The instruction is the processor's own, and images stand where its
        prompt has them. `pipeline("image-text-to-text", …)` calls this with its chats.

        Args:
            conversation (`list[dict]` or `list[list[dict]]`):
                `[{"role": "user", "content": […]}]`, the content a string or a list of `{"type": "text", "text": …}` and
                `{"type": "image", …}` with one of `"image"` (whatever [`open_image`] reads), `"path"`, `"url"` and
                `"base64"`, and, if it has one, its `"caption"`.
            chat_template (`str`, *optional*): A Jinja template to take the place of the processor's own.
            tokenize (`bool`, *optional*, defaults to `False`): Give the model's inputs, not the prompt's text.
            return_dict (`bool`, *optional*, defaults to `False`): Give all of the model's inputs, not `input_ids` alone.
            return_tensors (`str`, *optional*): As in [`SpectraSumProcessor.__call__`].
            processor_kwargs (`dict`, *optional*):
                Further arguments of [`SpectraSumProcessor.__call__`], such as `title`, `max_length`, `padding`, and
                `fetch_images=True`, without which addresses are refused. `kwargs` are the same.
            tools, documents, continue_final_message, return_assistant_tokens_mask, load_audio_from_video:
                Not possible.
            add_generation_prompt, sanitize_control_tokens (`bool`, *optional*, defaults to `True`):
                Nothing else is possible: a prompt ends where its summary begins, and in an article the spelling of a
                special token is plain text.

        Returns:
            `str`, a `BatchFeature`, or its `input_ids`; for a list of conversations a list of `str`, or a batch.

        Raises:
            ValueError: for more than one user message, other parts, and for what is not possible; the message names it.
        """
        impossible = {
            "tools": (tools, "a summary calls none"),
            "documents": (documents, "pass the article as the user's message"),
            "continue_final_message": (continue_final_message, "there is no turn but the user's"),
            "return_assistant_tokens_mask": (return_assistant_tokens_mask, "pass summary=… and use the labels"),
            "load_audio_from_video": (load_audio_from_video, "an article has text and images only"),
            "add_generation_prompt=False": (not add_generation_prompt, "a prompt ends where its summary begins"),
            "sanitize_control_tokens=False": (
                not sanitize_control_tokens,
                "in an article the spelling of a special token is plain text",
            ),
        }
        for name, (asked, reason) in impossible.items():
            if asked:
                raise ValueError(f"{name} is not possible: {reason}.")
        if chat_template is not None:
            processor = copy.copy(self)
            processor.chat_template = chat_template
            options = {"return_tensors": return_tensors, "processor_kwargs": processor_kwargs, **kwargs}
            return processor.apply_chat_template(conversation, tokenize=tokenize, return_dict=return_dict, **options)
        arguments = {**(processor_kwargs or {}), **kwargs}
        if given := sorted({"text", "images", "captions"} & set(arguments)):
            raise ValueError(f"{', '.join(given)} is not possible: text and images come from the conversation.")
        articles, batched = articles_of(conversation)
        texts = [article.text for article in articles]
        images = [article.images for article in articles]
        captions = [article.captions for article in articles]
        if not tokenize:
            titles = texts_of("title", arguments.get("title") or [None] * len(texts), len(texts), optional=True)
            prompts = [
                self.prompt_text(text, title or "", len(row), own)
                for text, title, row, own in zip(texts, titles, images, captions, strict=True)
            ]
            return prompts if batched else prompts[0]
        if return_tensors != "auto":
            arguments["return_tensors"] = return_tensors
        if not batched:
            # A title or summary of a single article is a string.
            texts, images, captions = texts[0], images[0], captions[:1]
        inputs = self(text=texts, images=images, captions=captions, **arguments)
        return inputs if return_dict else inputs["input_ids"]

    def decode_summaries(self, sequences: torch.Tensor, prompt_length: int) -> list[str]:
        """The generated part (B, T) → summaries; `prompt_length` is the width of the `input_ids` given to generate."""
        texts = self.tokenizer.batch_decode(sequences[:, prompt_length:], skip_special_tokens=True)
        return [text.strip() for text in texts]


def _squared(image: Image.Image, mean: Sequence[float]) -> Image.Image:
    side = max(image.size)
    left, top = (side - image.width) // 2, (side - image.height) // 2
    border = (left, top, side - image.width - left, side - image.height - top)
    return ImageOps.expand(image, border, tuple(int(value * 255) for value in mean))


__all__ = ["SpectraSumProcessor"]
