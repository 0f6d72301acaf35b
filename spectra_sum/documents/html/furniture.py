"""What of a page is not the article's text: bylines, share lines, teasers, notices. The rule is ours.

An element is furniture, and left out,

- by its tag (`<nav>`, `<aside>`, `<footer>`, controls), by `hidden`, `aria-hidden` or a hiding style, and, unless the
  headline stands in it, as a `<form>` or `<header>`;
- by its name: a word of its `class`, `id`, `role`, `itemprop` or `data-component` is one of `FURNITURE_NAMES`
  ("byline", "share", "related", "newsletter", "cookie", …; `wp-block-ad` has the words "wp", "block", "ad"), and it
  holds neither the headline nor more than half of the words. A name that says what its element has or not
  (`has-sidebar`, `comments-open`) does not count;
- by its links: a list, table or division of three links or more (a list: two) in which nine words of ten are linked,
  and no more than half of all words; a mark that refers to a footnote.

A paragraph is furniture if it is short and says nothing but what pages say around articles (English):
"By A. Writer, 3 min read", "Share on Facebook", "Read more: …", "Advertisement", "We use cookies …", "Sign up to our
newsletter", a date, "© …"; or if it is one link that ends like no sentence.
"""

import re
from collections.abc import Iterator, Sequence

from bs4 import Tag
from bs4.element import PageElement

from .tree import TEXT

FURNITURE_NAMES = frozenset(
    "ad ads adslot advert advertisement advertising alertdialog author authorline authors bio breadcrumb breadcrumbs "
    "byline bylines catlinks colophon comment comments complementary consent contentinfo contributor contributors cookie cookies "
    "dateline dialog disqus editsection follow footer gdpr jumplinks marketing masthead menu menubar menus mostread nav navbar "
    "navbox navigation newsletter newsletters outbrain pagination paywall popup posted printfooter promoted promotion "
    "pubdate publishdate recirc recommendation recommendations recommended related relatedposts share sharebar "
    "sharedaddy sharing shares sidebar signup skip skiplink social sponsor sponsored subscribe subscription taboola "
    "taglist tags timestamp toc toolbar topbar trending".split()
)
# Some sites call the article's own opening so; with a link in it, it is that of another article.
_NAMES_WITH_LINK = frozenset("promo promos teaser teasers".split())
# Of words for those who hear the page.
_SPOKEN = frozenset("screen-reader-text sr-only visually-hidden visuallyhidden".split())
_MODIFIERS = frozenset(
    "has with without no not is show hide hidden enabled disabled open opened closed active layout".split()
)
_NAMING = ("class", "id", "role", "itemprop", "data-component")
_MAX_NAME_LENGTH, _MAX_CLASSES = 500, 20
_LETTERS = re.compile(r"[A-Za-z]+")
_NAME_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")

FURNITURE_TAGS = frozenset("aside button datalist dialog footer input nav option rp rt select textarea".split())
# Around the article they are the site's; around the headline they are the article's own.
_FURNITURE_WITHOUT_HEADLINE = frozenset(("form", "header"))
_HIDING_STYLE = re.compile(r"(?:^|[;\s])(?:display\s*:\s*none|visibility\s*:\s*hidden)", re.IGNORECASE)

_LISTS = frozenset(("ul", "ol", "menu", "dl"))
_LINK_BLOCKS = _LISTS | {"div", "section", "p", "table", "td"}

_MAX_LINE_LENGTH = 400
_MAX_LINK_WORDS = 20
_ENDS_SENTENCE = re.compile(r"[.!?…][\"'”’»)\]]*$")
_WORD = re.compile(r"\w+")
_SHARING = frozenset("share shares tweet pin post send forward copy save print email mail".split())
_PLACES = frozenset(
    "facebook twitter x instagram whatsapp telegram linkedin reddit pinterest tumblr messenger bluesky mastodon threads "
    "flipboard youtube tiktok sms pdf".split()
)
_BETWEEN = frozenset("this it the our article story page link on via to by with in a e friend and or".split())
_DATE_WORDS = frozenset(
    "january february march april may june july august september october november december jan feb mar apr jun jul aug "
    "sep sept oct nov dec monday tuesday wednesday thursday friday saturday sunday mon tue tues wed thu thurs fri sat "
    "sun minutes minute mins min hours hour days day weeks week ago am pm gmt utc bst cet cest est edt pst pdt".split()
)
_AROUND_DATES = frozenset(
    "published posted updated last first modified date on at of the st nd rd th a p m yesterday today".split()
)
_LINES = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"advertisement|advertising|sponsored(?: content)?|promoted(?: content)?|ad",
        r"(?:read (?:more|also|next)|see also|also read|more on this(?: story)?|recommended(?: for you| reading)?|"
        r"(?:related|recommended)(?: (?:articles?|stories|story|topics?|posts?|content|news|coverage|links))?|"
        r"most (?:read|popular|viewed)|you (?:may|might) also (?:like|be interested in)|continue reading|keep reading|"
        r"up next|don.t miss|tags?|topics|filed under)(?:\s*[:»→…].*)?",
        r"(?:\d+ )?comments?(?: \(\d+\))?|(?:leave|post|add|write) a (?:reply|comment)|back to (?:top|index)|"
        r"skip to (?:main )?content|print(?: this)?(?: (?:page|article))?|(?:share|follow|listen|subscribe|sign up)",
        r"(?:©|\(c\) |copyright\b).*|.{0,60}\ball rights reserved\.?",
        r"follow (?:us|me|the author)(?: on .{1,60})?",
        r"(?:.{0,80}\s)?\d+[- ]min(?:ute)?s? read",
        r"(?:we use|we and our|this (?:web)?site uses|our (?:web)?sites? use|by (?:continuing|using|clicking))\b.*\bcookies?\b.*",
        r"(?:please )?(?:sign up|subscribe|get|join)\b.*\b(?:newsletters?|in-?box|mailing list)\b.*",
    )
)
_NUMBER = re.compile(r"\d+(?:st|nd|rd|th|am|pm)?")
_BYLINE = re.compile(r"(?:By|(?:Words|Text|Written|Reported|Reporting|Story) by)\s+(\w).*")
_MAX_BYLINE_WORDS = 15


class PageFurniture:
    """
    Tells the furniture of an article's root.

    Args:
        root (`Tag`): What is read.
        around_headline (`set[int]`): The ids of the tags around the page's `<h1>`s.
    """

    def __init__(self, root: Tag, around_headline: set[int]):
        self._around_headline = around_headline
        # Words, linked words and links in each tag, by its id.
        self._counts: dict[int, tuple[int, int, int]] = {}
        self._count(root)
        self._half = self._counts[id(root)][0] / 2

    def holds(self, tag: Tag) -> bool:
        """Whether an element is furniture by its tag."""
        return tag.name in FURNITURE_TAGS or (
            tag.name in _FURNITURE_WITHOUT_HEADLINE and id(tag) not in self._around_headline
        )

    def names(self, tag: Tag) -> bool:
        """Whether an element of what is read is furniture by its name or its links."""
        words, linked, links = self._counts[id(tag)]
        if id(tag) in self._around_headline or tag.name == "h1" or words > self._half:
            return False
        return is_spoken(tag) or _has_furniture_name(tag, links) or self._is_links(tag, words, linked, links)

    def _is_links(self, tag: Tag, words: int, linked: int, links: int) -> bool:
        if tag.name == "sup":
            return links > 0 and linked == words
        return tag.name in _LINK_BLOCKS and links >= (2 if tag.name in _LISTS else 3) and linked >= 0.9 * words > 0

    def _count(self, root: Tag) -> None:
        # A stack of our own: pages may be nested deeper than Python recurses. False stands for the end of a tag.
        stack: list[tuple[PageElement, bool]] = [(root, True)]
        words = linked = links = within = 0
        while stack:
            node, opens = stack.pop()
            if not isinstance(node, Tag):
                if type(node) in TEXT:
                    count = len(node.split())
                    words += count
                    linked += count if within else 0
            elif opens:
                self._counts[id(node)] = (words, linked, links)
                within += node.name == "a"
                stack.append((node, False))
                stack.extend((child, True) for child in reversed(node.contents))
            else:
                links += node.name == "a"
                within -= node.name == "a"
                before = self._counts[id(node)]
                self._counts[id(node)] = (words - before[0], linked - before[1], links - before[2])


def is_hidden(tag: Tag) -> bool:
    """Whether a browser does not show the element."""
    return bool(
        tag.has_attr("hidden") or tag.get("aria-hidden") == "true" or _HIDING_STYLE.search(str(tag.get("style", "")))
    )


def is_spoken(tag: Tag) -> bool:
    """Whether the element's words are for those who hear the page."""
    classes = tag.attrs.get("class", ())
    return 0 < len(classes) <= _MAX_CLASSES and not _SPOKEN.isdisjoint(classes)


def _has_furniture_name(tag: Tag, links: int) -> bool:
    furniture = FURNITURE_NAMES | _NAMES_WITH_LINK if links else FURNITURE_NAMES
    for name in _names(tag):
        words = {word.lower() for word in _NAME_WORD.findall(name)}
        words.add("".join(_LETTERS.findall(name)).lower())
        if words & furniture and not words & _MODIFIERS:
            return True
    return False


def _names(tag: Tag) -> Iterator[str]:
    for attribute in _NAMING:
        value = tag.get(attribute)
        if value:
            text = value if isinstance(value, str) else " ".join(value)
            yield from text[:_MAX_NAME_LENGTH].split()


def is_furniture_line(text: str, *, linked: bool = False, in_list: bool = False) -> bool:
    """
    Whether a paragraph of the article is none of its text.

    Args:
        text (`str`): The paragraph on one line.
        linked (`bool`, *optional*, defaults to `False`): Whether all of it is a link.
        in_list (`bool`, *optional*, defaults to `False`): Whether it is a heading or of a list, where a date, or "By
            train", is no byline.
    """
    if len(text) > _MAX_LINE_LENGTH:
        return False
    words = _WORD.findall(text.casefold())
    ends_sentence = bool(_ENDS_SENTENCE.search(text))
    if linked and len(words) <= _MAX_LINK_WORDS and not ends_sentence:
        return True
    if any(pattern.fullmatch(text) for pattern in _LINES) or _is_share_line(words):
        return True
    if in_list or ends_sentence or len(words) > _MAX_BYLINE_WORDS:
        return False
    byline = _BYLINE.fullmatch(text)
    return bool(byline and byline[1].isupper()) or _is_date(words)


def _is_share_line(words: Sequence[str]) -> bool:
    """Words of sharing and nothing else, "Share on Facebook"."""
    known = _SHARING | _PLACES | _BETWEEN
    return known.issuperset(words) and bool(words) and words[0] in _SHARING | _PLACES


def _is_date(words: Sequence[str]) -> bool:
    """A date or a time and nothing else, "Published on 3 May 2026 at 14:02"."""
    rest = [word for word in words if word not in _AROUND_DATES and not _NUMBER.fullmatch(word)]
    return len(rest) < len(words) and _DATE_WORDS.issuperset(rest) and bool(rest)
