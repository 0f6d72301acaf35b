"""Bylines, share lines, teasers and notices are no body text; what only looks like them is."""

import pytest
from bs4 import BeautifulSoup

from spectra_sum.documents.html.furniture import PageFurniture, is_furniture_line
from spectra_sum.documents.html.tree import ancestors
from tests.spectra_sum.documents.pages import colours, data_uri, kinds, save_image

STORY = "The harbour of the town reopened on Monday after two years of work."


def test_a_page_that_loads_its_images_late(tmp_path, read):
    """The kind of page of which the placeholders were taken for the article's images."""
    save_image(tmp_path / "harbour.png", "red", (240, 160))
    save_image(tmp_path / "market.png", "blue", (240, 160))
    save_image(tmp_path / "pixel.gif", "white", (1, 1))
    blank = data_uri("white", (1, 1), "GIF")
    document = read(f"""<!doctype html><html><head><title>The harbour reopens</title></head><body><nav>Home News</nav>
<article><h1>The harbour reopens</h1><p class="byline">By A. Writer, 3 min read</p><p>{STORY}</p>
<figure><img src="{blank}" data-cfsrc="harbour.png" alt="Ships in the harbour">
<figcaption>The first ships on Monday.</figcaption></figure>
<noscript><img src="market.png" alt="The market"></noscript><img data-src="market.png" src="{blank}" alt="The market">
<img src="pixel.gif" width="1" height="1"><p>Share on Facebook</p></article><footer>All rights reserved</footer>""")
    assert (document.title, document.body) == ("The harbour reopens", STORY)
    assert [(image.name, image.alt, image.caption) for image in document.images] == [
        ("harbour.png", "Ships in the harbour", "The first ships on Monday."),
        ("market.png", "The market", ""),
    ]
    assert colours(document) == [(255, 0, 0), (0, 0, 255)]
    assert [str(problem) for problem in document.problems] == [
        "small image: pixel.gif: it has 1 × 1 pixels; images of less than 24 a side are not the article's",
        "page furniture: around the article and not read: 5 words",
        "page furniture: not read as the article's text: “By A. Writer, 3 min read”, “Share on Facebook”",
    ]


@pytest.mark.parametrize(
    "line",
    [
        *(
            "By A. Writer, 3 min read",
            "By Jane Roe",
            "Words by Ann Smith and Bo Lee",
            "Reporting by Tim Ode; Editing by S",
        ),
        *("5 min read", "4-minute read", "Share on Facebook", "Share this:", "Facebook Twitter E-mail", "Tweet"),
        *("Share this article via WhatsApp or e-mail", "Print this page", "Read more", "Read more: How it began"),
        *("Related articles", "More on this story", "Most read", "You may also like", "See also: The old harbour"),
        *("Advertisement", "ADVERTISEMENT", "Sponsored content", "12 comments", "Leave a reply", "Back to top"),
        *(
            "© 2026 The Daily",
            "Copyright 2026 The Daily. All rights reserved.",
            "All rights reserved",
            "Follow us on X",
        ),
        *(
            "March 2, 2026",
            "Sat 4 Apr 2026 19.02 BST",
            "3 hours ago",
            "Published on 3 May 2026 at 14:02",
            "Posted 2 days ago",
        ),
        "We use cookies to give you the best experience on our site.",
        "By continuing to use this site you agree to our use of cookies.",
        "Sign up to our newsletter and get the best stories every morning.",
        "Subscribe to our daily newsletter",
    ],
)
def test_lines_around_an_article(read, line):
    assert is_furniture_line(line)
    document = read(f"<article><p>{STORY}</p><p>{line}</p><p>It will stay open.</p></article>")
    assert document.body == f"{STORY}\n\nIt will stay open."
    assert [problem.kind for problem in document.problems] == ["page_furniture"] and line[:40] in str(
        document.problems
    )


@pytest.mark.parametrize(
    "line",
    [
        *(
            "By Monday the water had fallen by a metre.",
            "by candlelight",
            "The 12 comments were read aloud",
            "In 2024",
        ),
        *(
            "Share prices fell on Monday.",
            "Share prices",
            "Facebook has bought the harbour",
            "Print is dead",
            "2024",
            "May",
        ),
        *("More than ninety ships came.", "Read more books, said the teacher.", "Related to this is the second case"),
        *("The cookies were baked on Sunday.", "The newsletter is sixty years old.", "We eat, and they bake cookies."),
        *("On 3 May 2026 the harbour reopened", "The copyright of the photographs expired in May"),
        "By " + "A very long list of names " * 5,
        "Advertisement " + "that goes on and on " * 30,
    ],
)
def test_lines_of_the_article(read, line):
    assert not is_furniture_line(line)
    assert " ".join(line.split()) in read(f"<article><p>{STORY}</p><p>{line}</p></article>").body


@pytest.mark.parametrize(
    "element",
    [
        "<div class='entry-meta byline'>Somebody</div>",
        "<div class=BylinesWrapper>Somebody</div>",
        "<div id=comments><p>What a lovely harbour.</div>",
        "<div class='wp-block-ad'>Buy it.</div>",
        "<div data-component=byline-block>Somebody</div>",
        "<div role=navigation>Home</div>",
        "<span itemprop=author>Somebody</span>",
        "<p class=PublishDate>A day in May</p>",
        "<div class=teaser><a href=x>Old harbour sold.</a></div>",
        "<ul><li><a href=x>One.</a><li><a href=y>Two.</a></ul>",
        "<div><a href=x>One.</a> <a href=y>Two.</a> <a href=z>Three.</a></div>",
        "<p><a href=x>How the harbour was built</a></p>",
        "<sup><a href='#note'>1</a></sup>",
        "<span class=screen-reader-text>Opens in a new tab.</span>",
    ],
)
def test_elements_around_an_article(tmp_path, read, element):
    save_image(tmp_path / "a.png", "red")
    document = read(f"<article><h1>T</h1><p>{STORY}</p>{element}<p>It will stay open.</p></article>")
    assert document.body == f"{STORY}\n\nIt will stay open."
    assert kinds(document) == {"page_furniture": 1}


@pytest.mark.parametrize(
    ("element", "text"),
    [
        (f"<div class='content sharing'>{STORY * 3}</div>", STORY * 3),
        ("<div class='post has-sidebar comments-open'>Few words.</div>", "Few words."),
        ("<div class=teaser-text>Few words.</div>", "Few words."),
        ("<div class=shadow><p class=added>Few words.</p></div>", "Few words."),
        ("<ul><li>more ships<li>more <a href=x>docks</a></ul>", "more ships\n\nmore docks"),
        ("<h2><a href='#coming'>What is coming</a></h2>", "What is coming"),
        ("<h2>12 May 2026</h2>", "12 May 2026"),
        ("<ul><li>By train</ul>", "By train"),
        ("<ul><li>By Train</ul>", "By Train"),
        ("<table><tr><td>12 May<td>14</table>", "12 May | 14"),
        ("<p><a href=x>The harbour was built in 1904.</a></p>", "The harbour was built in 1904."),
        ("<p>E = mc<sup>2</sup></p>", "E = mc2"),
    ],
)
def test_elements_of_the_article(read, element, text):
    document = read(f"<article><h1>T</h1><p>{STORY}</p>{element}</article>")
    assert document.body == f"{STORY}\n\n{text}" and document.problems == []


def test_what_holds_the_headline_or_most_words_is_never_furniture():
    page = BeautifulSoup(
        f"<div><div class=byline><h1>T</h1></div><div class=share>{STORY}</div><p class=share>It.</p></div>",
        "html.parser",
    )
    furniture = PageFurniture(page, ancestors(page.find_all("h1")))
    byline, most, few = page.find_all(class_=["byline", "share"])
    assert [furniture.names(tag) for tag in (byline, most, few)] == [False, False, True]


def test_images_of_furniture_are_counted_and_many_lines_are_summed_up(tmp_path, read):
    save_image(tmp_path / "a.png", "red")
    lines = "".join(f"<p>Read more: part {number}</p>" for number in range(10))
    document = read(f"<article><p>{STORY * 9}</p><div class=author><img src=a.png>A. Writer</div>{lines}</article>")
    assert document.images == []
    assert [str(problem) for problem in document.problems] == [
        "page furniture: around the article and not read: 1 img",
        "page furniture: not read as the article's text: “A. Writer”, "
        + ", ".join(f"“Read more: part {number}”" for number in range(7))
        + " and 3 more",
    ]


def test_a_page_of_links_only_is_read(read):
    assert read("<p><a href=x>The first article of the day is this.</a></p>").body.startswith("The first article")
