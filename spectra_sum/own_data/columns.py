"""Which column of a user's data is which column of an article's record."""

from collections.abc import Mapping, Sequence

from ..tasks.task import SUMMARIZATION, Task
from .formats import OwnDataError

# The columns of a record, and the usual names of each: its own comes first, and wins.
USUAL_NAMES: dict[str, tuple[str, ...]] = {
    "id": ("id", "article_id", "document_id", "doc_id", "uid", "uuid", "guid", "hash"),
    "title": ("title", "headline", "heading"),
    "article": ("article", "text", "document", "body", "content", "article_text", "document_text", "full_text"),
    "summary": ("summary", "highlights", "abstract", "reference_summary", "target_summary", "tldr"),
    "images": (
        *("images", "image", "figures", "figure", "img_list", "imgs", "img", "pictures", "photos"),
        *("image_paths", "image_path", "image_files", "image_file", "file_names", "file_name"),
        *("image_file_names", "image_file_name", "images_file_names"),
    ),
    "captions": ("captions", "caption", "image_captions", "image_caption", "figure_captions", "img_captions"),
    "alt_texts": ("alt_texts", "alt_text", "alts", "alt", "alternative_texts", "alternative_text"),
    "gold_images": ("gold_images", "gold_image", "gold_indices", "gold"),
}
OTHER_NAMES = {"text": "article"}
# Of a task with instructions, in whose data "text" or "description" may be anything.
INSTRUCTION_NAMES: dict[str, tuple[str, ...]] = {
    "id": (*USUAL_NAMES["id"], "sample_id"),
    "article": ("article", "instruction", "instructions", "prompt", "question", "query"),
    "summary": ("summary", "answer", "output", "response", "reference", "target", "story"),
    **{name: USUAL_NAMES[name] for name in ("images", "captions", "alt_texts")},
}


def usual_names(task: Task) -> dict[str, tuple[str, ...]]:
    """The columns of a record that a task reads, and the usual names of each: of one with instructions no title and no gold."""
    return INSTRUCTION_NAMES if task.has_instructions else USUAL_NAMES


def parse_columns(assignments: Sequence[str], task: Task = SUMMARIZATION) -> dict[str, str]:
    """
    The `OURS=THEIRS` of `--columns`.

    Args:
        assignments (`Sequence[str]`): `"article=story"`: the column story is the article. `text` is another name of
            `article`, and what the task calls a column is one, too: `"instruction=question"`. `"captions="`: no column is
            the captions, whatever it is called.
        task (`Task`, *optional*, defaults to `SUMMARIZATION`): What the data are for.

    Returns:
        `dict[str, str]`: A name of the data's columns, or `""`, by the name of the record's.

    Raises:
        OwnDataError: One is no such assignment, or names no column of a record, or one twice.
    """
    columns: dict[str, str] = {}
    known = usual_names(task)
    other = OTHER_NAMES | {task.word(ours): ours for ours in known}
    for text in assignments:
        name, sign, theirs = text.partition("=")
        ours = other.get(name, name)
        if not sign:
            raise OwnDataError(f"columns: {text!r} is no assignment; write NAME=COLUMN, such as article=story.")
        if ours not in known:
            record = f"a record of {task.name}" if task.has_instructions else "an article"
            raise OwnDataError(f"columns: {record} has no {name!r}; it has {', '.join(map(task.word, known))}.")
        if ours in columns:
            raise OwnDataError(
                f"columns: {task.word(ours)} is given twice, as {columns[ours]!r} and {theirs!r}; keep one."
            )
        if theirs and theirs in columns.values():
            raise OwnDataError(f"columns: {theirs!r} is given for two things; one column is one of them.")
        columns[ours] = theirs
    return columns


def find_columns(
    where: str, known: Sequence[str], given: Mapping[str, str], task: Task = SUMMARIZATION
) -> dict[str, str]:
    """
    Which column is which: those that are given, and of the others those with a usual name, whatever its case.

    Args:
        where (`str`): The data, for the message.
        known (`Sequence[str]`): The data's columns.
        given (`Mapping[str, str]`): Of [`parse_columns`].
        task (`Task`, *optional*, defaults to `SUMMARIZATION`): What the data are for.

    Returns:
        `dict[str, str]`: A name of the data's columns by the record's, of those that there are.

    Raises:
        OwnDataError: A given column is not there, two could be the same one, or none is the article; of a task with
            instructions, which has one of its own, none is the images.
    """
    has = f"it has {', '.join(map(repr, known)) or 'none'}"
    if missing := [theirs for theirs in given.values() if theirs and theirs not in known]:
        raise OwnDataError(f"{where}: there is no column {missing[0]!r} (columns); {has}.")
    found = {ours: theirs for ours, theirs in given.items() if theirs}
    free = [theirs for theirs in known if theirs not in found.values()]
    usual_of = usual_names(task)
    for ours, names in usual_of.items():
        if ours in given:
            continue
        # As it is written comes before the same in other cases.
        usual = [
            theirs for name in names for theirs in sorted(free, key=lambda one: one != name) if _plain(theirs) == name
        ]
        # A record's own name is no guess.
        alone = usual and (usual[0] == ours or [_plain(one) for one in usual].count(ours) == 1)
        if len(usual) > 1 and not alone:
            word = task.word(ours)
            raise OwnDataError(
                f"{where}: both {usual[0]!r} and {usual[1]!r} could be the {word}; choose with --columns {word}={usual[0]}."
            )
        if usual:
            found[ours] = usual[0]
    needed = "images" if task.has_instructions else "article"
    if needed not in found:
        raise OwnDataError(f"{where}: no column is the {needed}; {has}; name it with --columns {needed}=NAME.")
    return {ours: found[ours] for ours in usual_of if ours in found}


def _plain(name: str) -> str:
    return name.strip().lower().replace("-", "_").replace(" ", "_")
