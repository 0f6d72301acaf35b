"""Which column of a user's data is which column of an article's record."""

from collections.abc import Mapping, Sequence

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


def parse_columns(assignments: Sequence[str]) -> dict[str, str]:
    """
    The `OURS=THEIRS` of `--columns`.

    Args:
        assignments (`Sequence[str]`): `"article=story"`: the column story is the article. `text` is another name of
            `article`. `"captions="`: no column is the captions, whatever it is called.

    Returns:
        `dict[str, str]`: A name of the data's columns, or `""`, by the name of the record's.

    Raises:
        OwnDataError: One is no such assignment, or names no column of a record, or one twice.
    """
    columns: dict[str, str] = {}
    for text in assignments:
        name, sign, theirs = text.partition("=")
        ours = OTHER_NAMES.get(name, name)
        if not sign:
            raise OwnDataError(f"columns: {text!r} is no assignment; write NAME=COLUMN, such as article=story.")
        if ours not in USUAL_NAMES:
            raise OwnDataError(f"columns: an article has no {name!r}; it has {', '.join(USUAL_NAMES)}.")
        if ours in columns:
            raise OwnDataError(f"columns: {ours} is given twice, as {columns[ours]!r} and {theirs!r}; keep one.")
        if theirs and theirs in columns.values():
            raise OwnDataError(f"columns: {theirs!r} is given for two things; one column is one of them.")
        columns[ours] = theirs
    return columns


def find_columns(where: str, known: Sequence[str], given: Mapping[str, str]) -> dict[str, str]:
    """
    Which column is which: those that are given, and of the others those with a usual name, whatever its case.

    Args:
        where (`str`): The data, for the message.
        known (`Sequence[str]`): The data's columns.
        given (`Mapping[str, str]`): Of [`parse_columns`].

    Returns:
        `dict[str, str]`: A name of the data's columns by the record's, of those that there are.

    Raises:
        OwnDataError: A given column is not there, two could be the same one, or none is the article.
    """
    has = f"it has {', '.join(map(repr, known)) or 'none'}"
    if missing := [theirs for theirs in given.values() if theirs and theirs not in known]:
        raise OwnDataError(f"{where}: there is no column {missing[0]!r} (columns); {has}.")
    found = {ours: theirs for ours, theirs in given.items() if theirs}
    free = [theirs for theirs in known if theirs not in found.values()]
    for ours, names in USUAL_NAMES.items():
        if ours in given:
            continue
        # As it is written comes before the same in other cases.
        usual = [
            theirs for name in names for theirs in sorted(free, key=lambda one: one != name) if _plain(theirs) == name
        ]
        # A record's own name is no guess.
        alone = usual and (usual[0] == ours or [_plain(one) for one in usual].count(ours) == 1)
        if len(usual) > 1 and not alone:
            raise OwnDataError(
                f"{where}: both {usual[0]!r} and {usual[1]!r} could be the {ours}; choose with --columns {ours}={usual[0]}."
            )
        if usual:
            found[ours] = usual[0]
    if "article" not in found:
        raise OwnDataError(f"{where}: no column is the article; {has}; name it with --columns article=NAME.")
    return {ours: found[ours] for ours in USUAL_NAMES if ours in found}


def _plain(name: str) -> str:
    return name.strip().lower().replace("-", "_").replace(" ", "_")
