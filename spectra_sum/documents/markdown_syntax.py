"""What Markdown documents hold beside CommonMark, as rules of the parser: footnotes, attributes, embedded files, …"""

import re
from collections.abc import Sequence
from itertools import accumulate
from urllib.parse import quote

from markdown_it import MarkdownIt
from markdown_it.common.utils import escapeHtml
from markdown_it.rules_core import StateCore
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token
from mdit_py_plugins.footnote import footnote_plugin
from mdit_py_plugins.front_matter import front_matter_plugin

from .html.article import MEDIA

# A list of attributes, as kramdown ("{: .wide}"), Pandoc ("{#id .wide width=50%}") and others have it. The plugin of
# mdit_py_plugins takes no "50%".
_ATTRIBUTE = r"(?:[.#][\w:.#-]+|[\w:-]+=(?:\"[^\"{}]*\"|'[^'{}]*'|[^\s\"'{}]+))"
_ATTRIBUTES = re.compile(rf"\{{:?\s*{_ATTRIBUTE}(?:\s+{_ATTRIBUTE})*\s*\}}")
_AFTER_WHICH = frozenset(("image", "code_inline", "link_close", "em_close", "strong_close"))
_CONTENTS_MARK = re.compile(r"\[\[_?TOC_?\]\]|\[_?TOC_?\]|\{:?\s*toc\s*\}|\$\{toc\}", re.IGNORECASE)
_EMBEDDED = re.compile(r"!\[\[([^\[\]\n]{1,500})\]\]")
_SIZE = re.compile(r"\s*\d{1,5}(?:x\d{1,5})?\s*")
_TITLE = re.compile(r"\s+(?:\"([^\"\n]*)\"|'([^'\n]*)')\s*$")
# Of HTML within a line, what the reader of HTML makes something of. Another tag may be left open, or be no tag:
# "<name>".
_READ_TAGS = re.compile(r"</?(?:img|picture|source|br|figure|figcaption)\b", re.IGNORECASE)
_MEDIA_TAG = re.compile(rf"<({'|'.join(sorted(MEDIA))})\b", re.IGNORECASE)
_MAX_SPACED_PATH = 500


def markdown_parser() -> MarkdownIt:
    """
    A parser of CommonMark with tables, strikethrough, YAML front matter and footnotes; the HTML that it renders is
    meant for [`~spectra_sum.documents.html.article.ArticleReader`].

    Footnotes come last, without marks, and also those that nothing refers to. Attributes in braces and marks for a
    table of contents are taken out. `![alt](a path.png)` and `![[file.png|300]]` are images. An image and the italic line
    below it are a `<figure>` with its `<figcaption>`.
    """
    parser = MarkdownIt("commonmark", {"maxNesting": 100}).enable(["table", "strikethrough"])
    parser.use(front_matter_plugin).use(footnote_plugin)
    # Links are not followed, and one that the parser rejects (file:, data:) would stay in the body as source text.
    parser.validateLink = lambda url: True
    parser.inline.ruler.before("image", "embedded_file", _embedded_file)
    parser.inline.ruler.after("image", "spaced_image", _spaced_image)
    parser.core.ruler.before("footnote_tail", "unused_footnotes", _keep_unused_footnotes)
    parser.core.ruler.push("marks", _take_out_marks)
    parser.core.ruler.push("captions", _mark_captions)
    for mark in ("ref", "block_open", "block_close", "open", "close", "anchor"):
        parser.add_render_rule(f"footnote_{mark}", lambda *arguments: "")
    parser.add_render_rule("image", _render_image)
    parser.add_render_rule("html_inline", _render_inline_html)
    return parser


def _embedded_file(state: StateInline, silent: bool) -> bool:
    """`![[file.png]]`, with an alternative text or a size after `|`. The name is no URL."""
    match = _EMBEDDED.match(state.src, state.pos, state.posMax)
    if not match:
        return False
    if not silent:
        name, *texts = match[1].split("|")
        alt = " ".join(text.strip() for text in texts if not _SIZE.fullmatch(text))
        _push_image(state, quote(name.strip()), alt)
    state.pos = match.end()
    return True


def _spaced_image(state: StateInline, silent: bool) -> bool:
    """`![alt](a path with spaces.png "title")`, which CommonMark takes for text."""
    if not state.src.startswith("![", state.pos):
        return False
    end = state.md.helpers.parseLinkLabel(state, state.pos + 1, False)
    if end < 0 or not state.src.startswith("(", end + 1):
        return False
    start = end + 2
    depth, position = 1, start
    while depth and position < min(state.posMax, start + _MAX_SPACED_PATH):
        character = state.src[position]
        if character == "\n":
            return False
        depth += (character == "(") - (character == ")")
        position += 1
    if depth:
        return False
    inner = state.src[start : position - 1]
    title = _TITLE.search(inner)
    path = (inner[: title.start()] if title else inner).strip().removeprefix("<").removesuffix(">")
    if not path:
        return False
    if not silent:
        token = _push_image(state, state.md.normalizeLink(path), state.src[state.pos + 2 : end])
        if title:
            token.attrSet("title", title[1] or title[2] or "")
    state.pos = position
    return True


def _push_image(state: StateInline, source: str, alt: str) -> Token:
    token = state.push("image", "img", 0)
    token.attrs = {"src": source, "alt": ""}
    token.content = alt
    token.children = []
    state.md.inline.parse(alt, state.md, state.env, token.children)
    return token


def _keep_unused_footnotes(state: StateCore) -> None:
    """Numbers the footnotes that nothing refers to, which the plugin would drop."""
    footnotes = state.env.get("footnotes", {})
    for label, number in footnotes.get("refs", {}).items():
        if number < 0:
            listed = footnotes.setdefault("list", {})
            footnotes["refs"][label] = len(listed)
            listed[len(listed)] = {"label": label[1:], "count": 0}


def _take_out_marks(state: StateCore) -> None:
    for token in state.tokens:
        if token.type != "inline":
            continue
        if _CONTENTS_MARK.fullmatch(token.content.strip()):
            token.children = []
        else:
            _take_out_attributes(token.children or [])


def _mark_captions(state: StateCore) -> None:
    """Makes a figure of a paragraph that is one image, with the italic line at its end or right below it."""
    tokens, result, index = state.tokens, [], 0
    while index < len(tokens):
        paragraph = _paragraph(tokens, index)
        rest = _after_image(paragraph[1].children or []) if paragraph else None
        below = _paragraph(tokens, index + 3) if rest == [] else []
        if rest and _is_italic(rest):
            rest[0].tag = rest[-1].tag = "figcaption"
            caption = paragraph[1:2]
        elif below and _is_italic(_visible(below[1].children or [])):
            below[0].tag = below[2].tag = "figcaption"
            caption = [paragraph[1], *below]
        else:
            result.append(tokens[index])
            index += 1
            continue
        paragraph[0].tag = paragraph[2].tag = "figure"
        result += [paragraph[0], *caption, paragraph[2]]
        index += 6 if below else 3
    state.tokens = result


def _paragraph(tokens: Sequence[Token], index: int) -> Sequence[Token]:
    """The three tokens of the paragraph that begins at an index, if one does."""
    found = tokens[index : index + 3]
    is_paragraph = [token.type for token in found] == ["paragraph_open", "inline", "paragraph_close"]
    return found if is_paragraph and not found[0].hidden else []


def _visible(tokens: Sequence[Token]) -> list[Token]:
    breaks = ("softbreak", "hardbreak")
    return [token for token in tokens if token.type not in breaks and (token.type != "text" or token.content.strip())]


def _after_image(tokens: Sequence[Token]) -> list[Token] | None:
    """What follows the image, or the link that is one image, with which a paragraph begins; `None` if none does."""
    visible = _visible(tokens)
    types = [token.type for token in visible[:3]]
    if types[:1] == ["image"] or (types[:1] == ["html_inline"] and visible[0].content[:4].lower() == "<img"):
        return visible[1:]
    return visible[3:] if types == ["link_open", "image", "link_close"] else None


def _is_italic(tokens: Sequence[Token]) -> bool:
    if not tokens or tokens[0].type != "em_open" or tokens[-1].type != "em_close":
        return False
    depth = list(accumulate(token.nesting for token in tokens))
    return 0 not in depth[:-1]


def _take_out_attributes(tokens: Sequence[Token]) -> None:
    """Lists of attributes after an image, a link or the like, and at the end of a line."""
    for index, token in enumerate(tokens):
        if token.type != "text":
            continue
        text = token.content
        if index and tokens[index - 1].type in _AFTER_WHICH:
            first = _ATTRIBUTES.match(text)
            text = text[first.end() :] if first else text
        ends = index + 1 == len(tokens) or tokens[index + 1].type in ("softbreak", "hardbreak")
        opening = text.rfind("{")
        if ends and opening >= 0 and _ATTRIBUTES.fullmatch(text[opening:].rstrip()):
            text = text[:opening].rstrip()
        token.content = text


def _render_image(renderer: object, tokens: Sequence[Token], index: int, options: object, env: object) -> str:
    token = tokens[index]
    texts = {"src": token.attrs["src"], "alt": _plain_text(token.children or []), "title": token.attrs.get("title")}
    attributes = [f'{name}="{escapeHtml(str(text))}"' for name, text in texts.items() if text]
    return f"<img {' '.join(attributes)}>"


def _plain_text(tokens: Sequence[Token]) -> str:
    pieces = []
    for token in tokens:
        if token.type == "image":
            pieces.append(_plain_text(token.children or []))
        else:
            pieces.append(" " if token.type in ("softbreak", "hardbreak") else token.content)
    return "".join(pieces)


def _render_inline_html(renderer: object, tokens: Sequence[Token], index: int, options: object, env: object) -> str:
    content = tokens[index].content
    media = _MEDIA_TAG.match(content)
    if media:
        # Its end may be missing, or in another paragraph.
        return f"<{media[1]}></{media[1]}>"
    return content if _READ_TAGS.match(content) else ""
