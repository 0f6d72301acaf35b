"""Processor: articles and their images → the tensors of [`SpectraSumForConditionalGeneration`]."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jinja2 import TemplateError
from PIL import Image, ImageOps
from transformers import BatchFeature, PreTrainedTokenizerBase
from transformers.processing_utils import ProcessorMixin
from transformers.utils import logging

from .rgb_images import DECODING_ERRORS, flat_rgb, open_rgb

logger = logging.get_logger(__name__)

PLAIN_PROMPT = "{title}\n\n{body}\n\nSummary:"
CHAT_PROMPT = "Summarize the following article in a few sentences.\n\n{title}\n\n{body}"
OWN_PIPELINE = 'Articles with images go through pipeline("multimodal-summarization", …).'


def to_rgb(image: Any) -> Image.Image:
    """A PIL image, the path of one, or an array (H, W, 3) of uint8 → RGB by the rule of [`flat_rgb`].

    Raises:
        ValueError: for a URL (nothing is fetched), an image that cannot be read or has more than
            `PIL.Image.MAX_IMAGE_PIXELS` pixels, or an array of another kind.
    """
    if isinstance(image, str) and image.startswith(("http://", "https://")):
        raise ValueError(f"{image} is a URL; images are not fetched: download it and pass its path.")
    if isinstance(image, str | Path | Image.Image):
        try:
            return flat_rgb(image) if isinstance(image, Image.Image) else open_rgb(image)
        except DECODING_ERRORS as error:
            shown = getattr(image, "filename", "") or image
            raise ValueError(f"cannot read the image {shown}: {error}") from error
    if isinstance(image, torch.Tensor):
        image = image.cpu().numpy()
    shape, dtype = getattr(image, "shape", None), str(getattr(image, "dtype", type(image).__name__))
    if shape is None or len(shape) != 3 or shape[-1] != 3 or dtype != "uint8":
        raise ValueError(f"an image array must be (H, W, 3) of uint8, not {shape} of {dtype}.")
    return to_rgb(Image.fromarray(image))


class SpectraSumProcessor(ProcessorMixin):
    r"""Image processor and tokenizer of SPeCTrA-Sum.

    Args:
        image_processor (`BaseImageProcessor`): Of the vision tower.
        tokenizer (`PreTrainedTokenizerBase`): Of the language model; it needs an end token and a padding token.
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
    ):
        self.prompt_template = prompt_template or (CHAT_PROMPT if chat_template else PLAIN_PROMPT)
        fields = re.findall(r"\{title\}|\{body\}", self.prompt_template)
        if fields != ["{title}", "{body}"]:
            raise ValueError(f"prompt_template must hold {{title}} and then {{body}} once: {self.prompt_template!r}")
        if tokenizer.eos_token is None or tokenizer.pad_token is None:
            raise ValueError("the tokenizer needs an eos_token and a pad_token; set both before making the processor.")
        if num_image_tokens and tokenizer.convert_tokens_to_ids(image_token) in (None, tokenizer.unk_token_id):
            raise ValueError(
                f"image_token {image_token!r} is unknown to the tokenizer; add it as a special token first."
            )
        self.image_token = image_token
        self.num_image_tokens = num_image_tokens
        self.max_images = max_images
        self.max_candidate_images = max_candidate_images
        self.pad_to_square = pad_to_square
        super().__init__(image_processor, tokenizer, chat_template=chat_template)

    @property
    def model_input_names(self) -> list[str]:
        return ["input_ids", "attention_mask", "article_mask", "pixel_values", "image_mask"]

    def _frame(self, title: str) -> tuple[str, str]:
        """The prompt before and after the article's body; the title is inserted here and is never cut."""
        body_mark = "\u0000body\u0000"
        message = self.prompt_template.replace("{body}", body_mark).replace("{title}", title).lstrip()
        if self.chat_template:
            # Templates of multimodal models read a list of parts, and drop a plain string without a word.
            message = self._render(message, body_mark)
        before, _, after = message.partition(body_mark)
        return before, after

    def _render(self, message: str, mark: str) -> str:
        """The user's message in the chat format, in which `mark` stands."""
        failure = None
        for content in (message, [{"type": "text", "text": message}]):
            try:
                text = self.tokenizer.apply_chat_template(
                    [{"role": "user", "content": content}],
                    chat_template=self.chat_template,
                    tokenize=False,
                    add_generation_prompt=True,
                )
            except (TemplateError, TypeError) as error:
                failure = error
                continue
            if mark in text:
                return text
        raise ValueError(
            "the chat template renders neither a text nor a list of parts as the user's message"
            + (f": {failure}" if failure else ".")
        ) from failure

    def _encode(self, text: str, *, literal: bool) -> list[int]:
        """Token ids; `literal` reads the spelling of a special token as the plain text that it is in an article."""
        return self.tokenizer(text, add_special_tokens=False, split_special_tokens=literal)["input_ids"]

    def _frame_ids(self, title: str) -> tuple[list[int], list[int], list[int], list[int]]:
        """Token ids of the prompt's head, the title, what stands between title and body, and what follows the body."""
        title_mark = "\u0000title\u0000"
        before, after = self._frame(title_mark if title else "")
        head, _, middle = before.partition(title_mark)
        start = self.tokenizer("")["input_ids"]
        # A chat template writes the start token itself.
        head_ids = [*(start[:1] if start[:1] == [self.tokenizer.bos_token_id] and not self.chat_template else [])]
        head_ids += self._encode(head, literal=False)
        middle_ids, after_ids = self._encode(middle, literal=False), self._encode(after, literal=False)
        return head_ids, self._encode(title, literal=True), middle_ids, after_ids

    def _summary_ids(self, summary: str) -> list[int]:
        lead = "" if self.chat_template else " "
        return self._encode(lead + summary.strip(), literal=True) + [self.tokenizer.eos_token_id]

    def room_for_body(self, title: str = "", summary: str | None = None, max_length: int = 2048) -> int:
        """Text tokens that `max_length` leaves for an article's body; under 1 the article cannot be processed."""
        summary_ids = self._summary_ids(summary) if summary is not None else []
        return max_length - sum(map(len, self._frame_ids(title))) - len(summary_ids)

    def _prompt(self, body: str, title: str, num_images: int, room: int, name: str) -> tuple[list[int], list[int]]:
        """Token ids of the prompt and a mask of the article's own tokens; only the body is cut to fit `room`."""
        head_ids, title_ids, middle_ids, after_ids = self._frame_ids(title)
        image_ids = [self.tokenizer.convert_tokens_to_ids(self.image_token)] * (num_images * self.num_image_tokens)
        body_ids = self._encode(body, literal=True)
        room -= len(head_ids) + len(title_ids) + len(middle_ids) + len(after_ids)
        if room < 1:
            raise ValueError(
                f"max_length leaves no room for the body of {name}: title, instruction and summary need {1 - room} "
                "tokens more; raise max_length."
            )
        body_ids = body_ids[:room]
        # Images stand right before the title, inside the user's message.
        ids = head_ids + image_ids + title_ids + middle_ids + body_ids + after_ids
        article = [0] * (len(head_ids) + len(image_ids)) + [1] * len(title_ids) + [0] * len(middle_ids)
        return ids, article + [1] * len(body_ids) + [0] * len(after_ids)

    def __call__(
        self,
        text: str | Sequence[str] | None = None,
        images: Sequence[Sequence[Any]] | Sequence[Any] | None = None,
        title: str | Sequence[str] | None = None,
        summary: str | Sequence[str] | None = None,
        max_length: int | Sequence[int] = 2048,
        return_tensors: str = "pt",
        **kwargs: Any,
    ) -> BatchFeature:
        """Prepare a batch of articles.

        Args:
            text (`str` or `list[str]`): The articles' bodies.
            images (`list[list]`, *optional*):
                Per article its images (PIL, path, or uint8 array (H, W, 3)); for a single article also a flat list.
                They are made upright and RGB, transparency over white, and reduced to 1024 pixels a side.
                Of more than `max_candidate_images` the first ones are kept, with a warning that counts the rest.
            title (`str` or `list[str]`, *optional*): The articles' titles.
            summary (`str` or `list[str]`, *optional*): Reference summaries, for training.
            max_length (`int` or `list[int]`, *optional*, defaults to `2048`):
                Most text tokens of prompt and summary together, visual placeholders not counted; of all articles, or
                one entry per article. Only the body is cut.
            return_tensors (`str`, *optional*, defaults to `"pt"`): `"pt"` is the only choice.

        Returns:
            `input_ids`, `attention_mask` and `article_mask` (B, T), the last one true on title and body; with images
            `pixel_values` (B, N, 3, H, W) and `image_mask` (B, N); with summaries `labels` (B, T), −100 except on the
            summary and its end token. Prompts are padded on the left, prompts with a summary on the right.

        Raises:
            ValueError: for lists of different lengths, unreadable images, or a `max_length` without room for a body.
        """
        if return_tensors != "pt":
            raise ValueError(f"return_tensors={return_tensors!r}: this processor returns PyTorch tensors ('pt').")
        if kwargs:
            raise TypeError(f"unexpected arguments {sorted(kwargs)}.")
        if text is None:
            raise ValueError("text is missing: pass the article's body (it may be an empty string).")
        if isinstance(text, str):
            text, title, summary = [text], _listed(title), _listed(summary)
            if isinstance(images, list | tuple) and not (len(images) == 1 and isinstance(images[0], list | tuple)):
                images = [images]
        count = len(text)
        if images is not None and not (
            isinstance(images, list | tuple) and all(row is None or isinstance(row, list | tuple) for row in images)
        ):
            raise ValueError(f"images must be a list that holds one list of images per article. {OWN_PIPELINE}")
        limits = [max_length] * count if isinstance(max_length, int) else max_length
        for name, values in (("title", title), ("summary", summary), ("images", images), ("max_length", limits)):
            if values is not None and (isinstance(values, str) or len(values) != count):
                raise ValueError(f"{name} must be a list with one entry per article ({count}).")
        images = [list(row or []) for row in images] if images is not None else [[] for _ in range(count)]
        kept = [row[: self.max_candidate_images] for row in images]
        dropped = sum(map(len, images)) - sum(map(len, kept))
        if dropped:
            logger.warning(f"{dropped} images beyond max_candidate_images={self.max_candidate_images} are not scored.")

        rows = []
        for index in range(count):
            summary_ids = self._summary_ids(summary[index]) if summary is not None else []
            seen = min(len(kept[index]), self.max_images)
            article_title = title[index] if title is not None else ""
            prompt_ids, article = self._prompt(
                text[index], article_title, seen, limits[index] - len(summary_ids), f"article {index}"
            )
            rows.append((prompt_ids, article, summary_ids))
        data = self._pad(rows, pad_left=summary is None)
        if summary is None:
            del data["labels"]
        if any(kept):
            data.update(self._pixels(kept))
        return BatchFeature(data)

    def _pad(self, rows: list[tuple[list[int], list[int], list[int]]], pad_left: bool) -> dict[str, torch.Tensor]:
        length = max(len(prompt) + len(summary) for prompt, _, summary in rows)
        fill = {"input_ids": self.tokenizer.pad_token_id, "attention_mask": 0, "article_mask": 0, "labels": -100}
        data = {name: torch.full((len(rows), length), value) for name, value in fill.items()}
        for index, (prompt, article, summary) in enumerate(rows):
            size = len(prompt) + len(summary)
            place = slice(length - size, length) if pad_left else slice(0, size)
            data["input_ids"][index, place] = torch.tensor(prompt + summary)
            data["attention_mask"][index, place] = 1
            data["article_mask"][index, place] = torch.tensor(article + [0] * len(summary))
            data["labels"][index, place] = torch.tensor([-100] * len(prompt) + summary)
        data["article_mask"] = data["article_mask"].bool()
        return data

    def _pixels(self, images: list[list[Any]]) -> dict[str, torch.Tensor]:
        flat = []
        for article, row in enumerate(images):
            for index, image in enumerate(row):
                try:
                    rgb = to_rgb(image)
                except ValueError as error:
                    raise ValueError(f"article {article}: image {index}: {error}") from error
                flat.append(_squared(rgb, self.image_processor.image_mean) if self.pad_to_square else rgb)
        pixels = self.image_processor(flat, return_tensors="pt")["pixel_values"]
        image_mask = torch.zeros(len(images), max(map(len, images)), dtype=torch.bool)
        for index, row in enumerate(images):
            image_mask[index, : len(row)] = True
        pixel_values = pixels.new_zeros(*image_mask.shape, *pixels.shape[1:])
        pixel_values[image_mask] = pixels
        return {"pixel_values": pixel_values, "image_mask": image_mask}

    def apply_chat_template(self, conversation: Any, **kwargs: Any) -> Any:
        """Articles are no chats; transformers' `image-text-to-text` pipeline would make them from messages.

        Raises:
            ValueError: always, with the pipeline to use instead.
        """
        raise ValueError(f"this processor reads articles, and no chat messages. {OWN_PIPELINE}")

    def decode_summaries(self, sequences: torch.Tensor, prompt_length: int) -> list[str]:
        """The generated part (B, T) → summaries; `prompt_length` is the width of the `input_ids` given to generate."""
        texts = self.tokenizer.batch_decode(sequences[:, prompt_length:], skip_special_tokens=True)
        return [text.strip() for text in texts]


def _squared(image: Image.Image, mean: Sequence[float]) -> Image.Image:
    side = max(image.size)
    left, top = (side - image.width) // 2, (side - image.height) // 2
    border = (left, top, side - image.width - left, side - image.height - top)
    return ImageOps.expand(image, border, tuple(int(value * 255) for value in mean))


def _listed(value: str | Sequence[str] | None) -> Sequence[str] | None:
    return [value] if isinstance(value, str) else value


__all__ = ["SpectraSumProcessor"]
