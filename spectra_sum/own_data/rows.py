"""From rows of a user's data to articles: texts, summaries as sentences, ids, images and what is written about them."""

import datetime
import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import datasets

from ..sentences import split_sentences
from ..tasks.task import SUMMARIZATION, Task
from .formats import OwnDataError
from .images import ImagePlace, image_values, text_list

logger = logging.getLogger(__name__)

ID_LENGTH = 16
_TEXT = datasets.Value("string")


def article_features(*, decode: bool = True) -> datasets.Features:
    """The columns of articles, as those of MSMO; a stream decodes no image, since a broken one would end it."""
    return datasets.Features(
        {
            "id": _TEXT,
            "title": _TEXT,
            "article": _TEXT,
            "summary": datasets.List(_TEXT),
            "images": datasets.List(datasets.Image(decode=decode)),
            "captions": datasets.List(_TEXT),
            "alt_texts": datasets.List(_TEXT),
            "gold_images": datasets.List(datasets.Value("int64")),
        }
    )


class _ColumnError(OwnDataError):
    """A value of the record's column `column` that cannot be read."""

    def __init__(self, column: str, message: str):
        super().__init__(message)
        self.column = column


class RowReader:
    """
    Makes articles of batches of rows, for the `map` of a dataset or a stream.

    Args:
        where (`str`): The data, for messages.
        columns (`Mapping[str, str]`): The data's columns by the record's; of [`find_columns`].
        place (`ImagePlace`): Where the images may lie.
        stream (`bool`, *optional*, defaults to `False`): Nobody sees all articles: one without a body is told here, and one
            without a summary raises.
        task (`Task`, *optional*, defaults to `SUMMARIZATION`): What the articles are for; where it has an instruction, a row
            without one gets it.
    """

    # Belongs to the name of what `datasets` keeps: raised when the same rows would give other articles.
    VERSION = 2

    def __init__(
        self,
        where: str,
        columns: Mapping[str, str],
        place: ImagePlace,
        *,
        stream: bool = False,
        task: Task = SUMMARIZATION,
    ):
        self.where = where
        self.task = task
        self.columns = dict(columns)
        self.place = place
        self.stream = stream
        self.version = self.VERSION

    def __call__(self, batch: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
        """
        Rows by their columns → articles by those of [`article_features`]. A row without a body gives none.

        Raises:
            OwnDataError: A value cannot be read; the message names the article and the column.
        """
        values = {ours: batch[theirs] for ours, theirs in self.columns.items()}
        rows = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
        articles = [article for row in rows if (article := self._article(row)) is not None]
        return {name: [article[name] for article in articles] for name in article_features()}

    def _article(self, row: Mapping[str, Any]) -> dict[str, Any] | None:
        place = self.where
        try:
            identifier = _identifier(row.get("id"))
            place = f"{self.where}: article {identifier}" if identifier else self.where
            title = " ".join(_text(row.get("title"), "title", " ").split())
            body = _text(row.get("article"), "article", "\n\n").replace("\r\n", "\n").strip()
            body = body or self.task.instruction or ""
            summary = _summary(row.get("summary"))
            if not identifier:
                identifier = self._own_identifier(title, body, summary, row.get("images"))
                place = f"{self.where}: the article that begins with {body[:40]!r}"
            if not body:
                if self.stream:
                    logger.warning("%s has no body and is left out", place)
                return None
            if not summary and self.stream:
                word = self.task.word("summary")
                raise _ColumnError("summary", f"it has no {word}; training needs one of every article.")
            named = image_values(row.get("images"))
            images = [self.place.stored(value) for value in named]
            texts = {name: _texts(row.get(name), name, len(images)) for name in ("captions", "alt_texts")}
            gold = _gold(row.get("gold_images"), named)
        except OwnDataError as error:
            column = self.columns.get(error.column if isinstance(error, _ColumnError) else "images")
            raise OwnDataError(f"{place}{f' (column {column!r})' if column else ''}: {error}") from None
        return {
            "id": identifier,
            "title": title,
            "article": body,
            "summary": summary,
            "images": images,
            **texts,
            "gold_images": gold,
        }

    def _own_identifier(self, title: str, body: str, summary: Sequence[str], images: Any) -> str:
        if not self.task.has_instructions:
            return _content_id(title, body, summary)
        # Many records ask the same and are answered alike.
        shown = [
            one.get("path") or one.get("bytes") if isinstance(one, Mapping) else one for one in image_values(images)
        ]
        digests = [
            hashlib.sha256(one if isinstance(one, bytes) else str(one).encode("utf-8", "surrogatepass")).hexdigest()
            for one in shown
        ]
        return _content_id(title, body, [*summary, *digests])


def _is_nothing(value: Any) -> bool:
    # NaN, as tables of `pandas` write what is missing.
    return value is None or (isinstance(value, float) and value != value)


def _text(value: Any, column: str, joint: str) -> str:
    if _is_nothing(value):
        return ""
    if isinstance(value, str):
        # A cell of a table; a title may begin with a bracket.
        parts = _cell_list(value, column) if column == "article" else None
        if parts is None or not all(isinstance(part, str) for part in parts):
            return value
        value = parts
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return joint.join(part.strip() for part in value)
    if column == "title" and isinstance(value, int | float):
        return str(value)
    if column == "title" and isinstance(value, datetime.date):
        return _date(value)
    raise _ColumnError(column, f"the {column} is a {type(value).__name__}; it must be a text, or a list of texts.")


def _summary(value: Any) -> list[str]:
    """The summary's lines: those that it has, or the sentences of a text."""
    if isinstance(value, str):
        parts = _cell_list(value, "summary")
        value = parts if parts is not None else split_sentences(value)
    if _is_nothing(value):
        return []
    if not isinstance(value, list) or not all(isinstance(line, str) for line in value if line is not None):
        raise _ColumnError(
            "summary", f"the summary is a {type(value).__name__}; it must be a text, or the list of its sentences."
        )
    return [line.strip() for line in value if line and line.strip()]


def _cell_list(value: str, column: str) -> list[Any] | None:
    try:
        return text_list(value)
    except OwnDataError as error:
        raise _ColumnError(column, str(error)) from None


def _date(value: datetime.date) -> str:
    """As the file has it, which readers of JSON and CSV take for a time: a day without one has none."""
    midnight = isinstance(value, datetime.datetime) and value.time() == datetime.time()
    return (value.date() if midnight else value).isoformat()


def _identifier(value: Any) -> str:
    if _is_nothing(value):
        return ""
    if isinstance(value, bytes):
        try:
            value = value.decode("utf-8")
        except UnicodeDecodeError:
            raise _ColumnError("id", "an id is bytes that are no text; give a text or a number.") from None
    if isinstance(value, datetime.date):
        return _date(value)
    if isinstance(value, list | Mapping):
        raise _ColumnError(
            "id",
            f"an id is a {type(value).__name__}; it must be a text or a number, and each article a row of its own.",
        )
    return str(value).strip()


def _content_id(title: str, body: str, summary: Sequence[str]) -> str:
    # Of the content, so that it stays where rows are added or sorted.
    content = json.dumps([title, body, list(summary)], ensure_ascii=False)
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()[:ID_LENGTH]


def _texts(value: Any, column: str, images: int) -> list[str]:
    if isinstance(value, str):
        parts = _cell_list(value, column)
        value = parts if parts is not None else [value] if value.strip() else []
    if _is_nothing(value):
        value = []
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value if text is not None):
        raise _ColumnError(column, f"{column} is a {type(value).__name__}; it must be a list of texts, one per image.")
    if value and len(value) != images:
        raise _ColumnError(
            column,
            f"there are {len(value)} {column} and {images} images; give one text per image, empty where there is none.",
        )
    return [(text or "").strip() for text in value] or [""] * images


def _gold(value: Any, images: Sequence[Any]) -> list[int]:
    """Places of gold images, which the data may give by number or by name."""
    if isinstance(value, str):
        value = image_values(value)
    if _is_nothing(value):
        return []
    names = [image.get("path") if isinstance(image, Mapping) else image for image in images]
    gold = []
    for entry in value if isinstance(value, list) else [value]:
        if isinstance(entry, str) and entry.strip() in names:
            index = names.index(entry.strip())
        elif isinstance(entry, str) and entry.strip().isdecimal():
            index = int(entry)
        elif isinstance(entry, int | float) and not isinstance(entry, bool) and float(entry).is_integer():
            index = int(entry)
        else:
            raise _ColumnError("gold_images", f"the gold image {entry!r} is neither the number nor the name of one.")
        if not 0 <= index < len(images):
            raise _ColumnError(
                "gold_images", f"its gold images are {value}, but it has {len(images)} images (counted from 0)."
            )
        gold.append(index)
    return sorted(set(gold))
