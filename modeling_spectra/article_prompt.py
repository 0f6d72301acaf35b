"""The prompt of an article: what stands around title and body, where its images stand, and the token ids of it all."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from jinja2 import TemplateError

from .image_texts import caption_lines

PLAIN_PROMPT = "{title}\n\n{body}\n\nSummary:"
CHAT_PROMPT = "Summarize the following article in a few sentences.\n\n{title}\n\n{body}"
TITLE_MARK, BODY_MARK = "\u0000title\u0000", "\u0000body\u0000"


def check_prompt_template(template: str) -> None:
    """Raise a ValueError unless the template has `{title}` and then `{body}` once."""
    if re.findall(r"\{title\}|\{body\}", template) != ["{title}", "{body}"]:
        raise ValueError(f"prompt_template must hold {{title}} and then {{body}} once: {template!r}")


class ArticlePrompt(NamedTuple):
    """Token ids of a prompt (T,), a mask (T,) of the tokens of title and body, and how many caption lines it has."""

    ids: list[int]
    article: list[int]
    lines: int


class ArticlePromptMixin:
    """Makes prompts of articles; part of [`SpectraSumProcessor`].

    With `captions="prompt"` an empty line and the caption lines follow the body. Which images the relevance predictor will
    keep is not known when a prompt is written: the lines are those of the images that it keeps without a reduction, the first
    `max_images`. An article without images, as for a summarizer that reads text alone, has a line for every caption.
    """

    def prompt_text(self, text: str, title: str = "", num_images: int = 0, captions: Sequence[str] = ()) -> str:
        """The whole prompt of an article as text, uncut.

        With visual placeholders each image that the summarizer sees has one, which stands for all of its tokens.
        """
        images = self._placed_images(num_images)
        head, middle, after = self._frame(bool(title), images)
        if self.images_before_start:
            head = self.image_token * images + head
        elif not self.images_first:
            head += self.image_token * images
        return head + title + middle + text + "".join(self._lines(text, num_images, captions)) + after

    def num_text_tokens(self, text: str, title: str = "", num_images: int = 0, captions: Sequence[str] = ()) -> int:
        """Tokens of an article's whole prompt, visual placeholders not counted."""
        ids = self._prompt(text, title, num_images, captions).ids
        return len(ids) - self._placed_images(num_images) * self.num_image_tokens

    def num_caption_lines(
        self,
        text: str,
        title: str = "",
        num_images: int = 0,
        captions: Sequence[str] = (),
        max_length: int | None = None,
    ) -> int:
        """Caption lines of an article's prompt: all, or those that `max_length` leaves room for."""
        lines = self._lines(text, num_images, captions)
        return self._prompt(text, title, num_images, captions, max_length).lines if lines else 0

    def room_for_body(self, title: str = "", summary: str | None = None, max_length: int = 2048) -> int:
        """Text tokens that `max_length` leaves for an article's body; under 1 the article cannot be processed.

        Caption lines take none of them: where body and lines do not fit together, it is the lines that go.
        """
        summary_ids = self._summary_ids(summary) if summary is not None else []
        # Images may change how the text around them is split.
        images = self._placed_images(1) if self.images_first else 0
        sizes = [sum(map(len, self._frame_ids(title, count))) - count for count in {0, images}]
        return max_length - len(self._start_ids()) - max(sizes) - len(summary_ids)

    def _placed_images(self, num_images: int) -> int:
        """Images that have placeholders in the prompt."""
        return min(num_images, self.max_images) if self.num_image_tokens else 0

    def _lines(self, body: str, num_images: int, captions: Sequence[str]) -> list[str]:
        """What follows the body: the caption lines, each with the line breaks before it."""
        if self.captions == "none":
            return []
        lines = caption_lines(captions[: self.max_images] if num_images else captions)
        return [("\n" if index else "\n\n" if body else "") + line for index, line in enumerate(lines)]

    def _frame(self, has_title: bool, images: int) -> tuple[str, str, str]:
        """The prompt before the title, between title and body, and after the body.

        With `images_first` the first part has one placeholder for each of the images.
        """
        message = self.prompt_template.replace("{body}", BODY_MARK)
        message = message.replace("{title}", TITLE_MARK if has_title else "").lstrip()
        before, _, after = self._render(message, images if self.images_first else 0).partition(BODY_MARK)
        head, _, middle = before.partition(TITLE_MARK)
        return head, middle, after

    def _render(self, message: str, images: int) -> str:
        """The user's message in the chat format, behind the placeholders of `images` images."""
        text = f"{self.image_token * images}\n{message}" if images else message
        if not self.chat_template:
            return text
        parts = [{"type": "image"}] * images + [{"type": "text", "text": message}]
        # Templates of multimodal models read a list of parts, and drop a plain string without a word. They say where
        # images stand, so that they come first where this matters.
        contents = (parts, text) if self.images_first else (text, parts)
        failure = None
        for content in contents:
            try:
                prompt = self.tokenizer.apply_chat_template(
                    [{"role": "user", "content": content}],
                    chat_template=self.chat_template,
                    tokenize=False,
                    add_generation_prompt=True,
                )
            except (TemplateError, TypeError) as error:
                failure = error
                continue
            if BODY_MARK in prompt and (not images or prompt.count(self.image_token) == text.count(self.image_token)):
                return prompt
        raise ValueError(
            "the chat template renders neither a text nor a list of parts as the user's message"
            + (f": {failure}" if failure else ".")
        ) from failure

    def _encode(self, text: str, *, literal: bool) -> list[int]:
        """Token ids; `literal` reads the spelling of a special token as the plain text that it is in an article."""
        return self.tokenizer(text, add_special_tokens=False, split_special_tokens=literal)["input_ids"]

    def _start_ids(self) -> list[int]:
        # A chat template writes the start token itself.
        start = self.tokenizer("")["input_ids"][:1]
        return start if start == [self.tokenizer.bos_token_id] and not self.chat_template else []

    def _frame_ids(self, title: str, images: int) -> tuple[list[int], list[int], list[int], list[int]]:
        """Token ids of the prompt's head, the title, what stands between title and body, and what follows the body."""
        head, middle, after = (self._encode(part, literal=False) for part in self._frame(bool(title), images))
        return head, self._encode(title, literal=True), middle, after

    def _prompt(
        self,
        body: str,
        title: str,
        num_images: int,
        captions: Sequence[str] = (),
        limit: int | None = None,
        *,
        name: str = "the article",
        add_special_tokens: bool = True,
    ) -> ArticlePrompt:
        """To fit `limit` whole caption lines are cut from the end, and when there is none left, the body."""
        images = self._placed_images(num_images)
        start = self._start_ids() if add_special_tokens else []
        head, title_ids, middle, after = self._frame_ids(title, images)
        body_ids = self._encode(body, literal=True)
        lines = self._lines(body, num_images, captions)
        line_ids = [self._encode(line, literal=True) for line in lines]
        ids = start + head + title_ids + middle + after
        text_tokens = len(ids) - (images if self.images_first else 0)
        room = len(body_ids) + sum(map(len, line_ids)) if limit is None else limit - text_tokens
        if limit is not None and room < 1:
            raise ValueError(
                f"max_length leaves no room for the body of {name}: title, instruction and summary need {1 - room} "
                "tokens more; raise max_length."
            )
        while line_ids and len(body_ids) + sum(map(len, line_ids)) > room:
            line_ids.pop()
        body_ids = body_ids[:room]
        ids = start + head + title_ids + middle + body_ids + [token for line in line_ids for token in line] + after
        article = [0] * (len(start) + len(head)) + [1] * len(title_ids) + [0] * len(middle) + [1] * len(body_ids)
        # An image must not be found relevant because the article that it is compared with holds its own caption.
        article += [0] * (len(ids) - len(article))
        image_id = self.tokenizer.convert_tokens_to_ids(self.image_token)
        if not self.images_first:
            # Images stand right before the title, inside the user's message, or before the whole prompt.
            place = 0 if self.images_before_start else len(start) + len(head)
            placeholders = images * self.num_image_tokens
            ids[place:place] = [image_id] * placeholders
            article[place:place] = [0] * placeholders
            return ArticlePrompt(ids, article, len(line_ids))
        joined = self._joined(body, title, images, len(body_ids), lines, None if limit is None else limit - len(start))
        written = len(line_ids)
        if joined is not None:
            ids, article, written = start + joined.ids, [0] * len(start) + joined.article, joined.lines
        repeats = [self.num_image_tokens if images and token == image_id else 1 for token in ids]
        return ArticlePrompt(_repeated(ids, repeats), _repeated(article, repeats), written)

    def _joined(
        self, body: str, title: str, images: int, kept: int, lines: Sequence[str], limit: int | None
    ) -> ArticlePrompt | None:
        """The prompt when it is split into tokens as one text, as LLaVA-OneVision's processor does.

        A token may then reach over the border of title or body (`.` and the line break after it are one in many
        vocabularies). None where an article spells a special token, which would be read as one, and where the tokens
        do not fit `limit` that do part by part.

        Args:
            kept (`int`): Tokens of the body that fit when it is split alone.
            lines (`Sequence[str]`): The caption lines, fitting or not.
        """
        special = [token.content for token in self.tokenizer.added_tokens_decoder.values() if token.special]
        if any(token in part for token in special for part in (title, body, *lines)):
            return None
        head, middle, after = self._frame(bool(title), images)
        ends = [end for _, end in self._with_offsets(body)[1]]
        attempts = [(kept, count) for count in range(len(lines), 0, -1)] if kept == len(ends) else []
        attempts += [(count, 0) for count in range(kept, min(kept, 1) - 1, -1)]
        for count, with_lines in attempts:
            cut = body if count == len(ends) else body[: ends[count - 1]]
            ids, spans = self._with_offsets(head + title + middle + cut + "".join(lines[:with_lines]) + after)
            if limit is None or len(ids) - images <= limit:
                after_title = len(head) + len(title)
                own = ((len(head), after_title), (after_title + len(middle), after_title + len(middle) + len(cut)))
                article = [int(any(first < end and last > start for start, end in own)) for first, last in spans]
                return ArticlePrompt(ids, article, with_lines)
        return None

    def _with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        encoding = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        return encoding["input_ids"], encoding["offset_mapping"]

    def _summary_ids(self, summary: str) -> list[int]:
        lead = "" if self.chat_template else " "
        return self._encode(lead + summary.strip(), literal=True) + [self.tokenizer.eos_token_id]


def _repeated(values: list[int], repeats: list[int]) -> list[int]:
    return [value for value, count in zip(values, repeats, strict=True) for _ in range(count)]


__all__ = ["CHAT_PROMPT", "PLAIN_PROMPT", "ArticlePrompt", "ArticlePromptMixin", "check_prompt_template"]
