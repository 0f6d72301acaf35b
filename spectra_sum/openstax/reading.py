"""Modules of books to sections, and their image files to small ones."""

import hashlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote

from spectra_sum.msmo.layout import is_inside
from spectra_sum.openstax.captions import is_foreign_figure, is_share_alike, split_credit
from spectra_sum.openstax.checkout import OpenStaxError
from spectra_sum.openstax.cnxml.module import FigureSource, Module
from spectra_sum.openstax.cnxml.xml_reading import XMLDamage, parse_xml
from spectra_sum.openstax.collection import Book
from spectra_sum.openstax.counts import Counts
from spectra_sum.openstax.figures import small_jpeg
from spectra_sum.openstax.licence import is_foreign
from spectra_sum.openstax.section import Figure, Section, section_id

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:|//", re.IGNORECASE)


def read_sections(
    books: list[Book], save: Callable[[str, bytes], None], counts: Counts, advance: Callable[[], None]
) -> Iterator[Section]:
    """
    The sections of books, in their order: the modules with a summary at their end.

    Args:
        books (`list[Book]`): The books. A module that several of a checkout share is read once.
        save (`Callable[[str, bytes], None]`): Takes each figure as JPEG, by its name in the MSMO layout.
        counts (`Counts`): Counts what is kept and what is not.
        advance (`Callable[[], None]`): Called after each module.
    """
    seen = set()
    for book in books:
        for chapter in book.chapters:
            for module in chapter.modules:
                if (book.checkout.folder, module) in seen:
                    counts.leave_out("read_before", f"{book.name}/{module}")
                elif section := _read_section(book, chapter.number, module, save, counts):
                    yield section
                seen.add((book.checkout.folder, module))
                advance()


def _read_section(
    book: Book, chapter: int, name: str, save: Callable[[str, bytes], None], counts: Counts
) -> Section | None:
    place = book.checkout.shown(book.checkout.folder / "modules" / name / "index.cnxml")
    try:
        root = parse_xml(book.checkout.file("modules", name, "index.cnxml"))
    except OpenStaxError as error:
        counts.leave_out("broken_module", place, str(error).partition(": ")[2])
        return None
    except (XMLDamage, OSError) as error:
        counts.leave_out("broken_module", place, str(error))
        return None
    module = Module(name, root)
    if not module.has_summary:
        counts.leave_out("no_summary", place)
        return None
    if is_foreign(root):
        counts.leave_out("other_licence", place)
        return None
    # Read once without figures: nothing is saved of a section that is none.
    if not module.title or not module.body({}) or not module.summary({}):
        counts.leave_out("no_text", place)
        return None
    identifier = section_id(book.name, name)
    sources, numbers, files = [], {}, {}
    for source in module.figures:
        file, reason, detail = _file(book, name, module, source)
        if file is not None and file in files:
            numbers.update(dict.fromkeys(source.ids, files[file]))
            reason = "repeated"
        elif file is not None:
            try:
                jpeg = small_jpeg(file)
            except ValueError as error:
                reason, detail = "broken", f"{file.name}: {error}"
            else:
                save(f"{identifier}_{len(sources)}.jpg", jpeg)
                sources.append((source, file))
                files[file] = len(sources)
                numbers.update(dict.fromkeys(source.ids, len(sources)))
        if reason:
            counts.leave_out(reason, place, detail)
    figures = [_figure(module, source, file, numbers) for source, file in sources]
    counts.kept.update(
        sections=1,
        figures=len(figures),
        captions=sum(bool(figure.caption) for figure in figures),
        alt_texts=sum(bool(figure.alt) for figure in figures),
        share_alike=sum(is_share_alike(figure.credit) for figure in figures),
    )
    return Section(
        book=book.name,
        slug=book.slug,
        commit=book.checkout.commit,
        chapter=chapter,
        module=name,
        title=module.title,
        body=module.body(numbers),
        summary=module.summary(numbers),
        figures=figures,
    )


def _file(book: Book, name: str, module: Module, source: FigureSource) -> tuple[Path | None, str, str]:
    """A figure's file, or else why it is left out, and the detail."""
    caption, credit = _texts(module, source, {})
    if is_foreign_figure(caption, credit):
        return None, "foreign", ""
    address = source.address
    if not address:
        return None, "no_image", ""
    if _SCHEME.match(address):
        return None, "remote", ""
    path = book.checkout.folder / "modules" / name / unquote(address)
    try:
        if not is_inside(path, book.checkout.folder):
            return None, "outside", f"the image {address} leads out of the checkout"
        if not path.is_file():
            return None, "missing", f"there is no image {address}"
    except ValueError as error:  # a null character
        return None, "missing", f"the image {address!r}: {error}"
    return path.resolve(), "", ""


def _figure(module: Module, source: FigureSource, file: Path, numbers: dict[str, int]) -> Figure:
    caption, credit = _texts(module, source, numbers)
    return Figure(file.name, hashlib.sha256(file.read_bytes()).hexdigest(), caption, credit, source.alt)


def _texts(module: Module, source: FigureSource, numbers: dict[str, int]) -> tuple[str, str]:
    return split_credit("" if source.caption is None else module.line(source.caption, numbers))
