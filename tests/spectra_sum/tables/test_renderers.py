"""Hostile names stay text in every format; the LaTeX is well formed."""

import re

import html5lib
import pytest
from markdown_it import MarkdownIt

from spectra_sum.tables import (
    Cell,
    Row,
    Table,
    build_tables,
    load_published,
    read_evaluations,
    render_html,
    render_latex,
    render_markdown,
)

HOSTILE = [
    "a|b & c % d # e_f ^ ~ $x$ {y}",
    r"\input{/etc/passwd} \\ \end{tabular}",
    "<script>alert(1)</script> \"'><img src=x onerror=alert(1)>",
    "[click](javascript:alert(1)) ![x](http://evil.example/x.png) **bold** `code`",
    "[1]: http://evil.example <http://evil.example>",
    "one\ntwo | three\r\n# four\u202egnp.exe",
    "&lt;b&gt; &amp; --- -- ''",
]
# What the renderer itself writes; a name must not add to it.
LATEX_COMMANDS = set(
    r"""\begin \end \centering \small \caption \label \textbf \par \medskip \linewidth \toprule \midrule \bottomrule
    \raggedright \footnotesize \scriptsize \textsuperscript \textbackslash \textasciicircum \textasciitilde \textless
    \textgreater \textbar \char \star \uparrow \downarrow""".split()
)


@pytest.fixture
def tables(make_evaluation):
    folders = [
        make_evaluation(
            name,
            [{"rouge1": 0.1 * index + 0.001 * article} for article in range(12)],
            folder=str(index),
            objective="multi",
            selection=name,
            data=(name, "test"),
            not_computed={"max_sim": name},
            dropped={name: 3},
        )
        for index, name in enumerate(HOSTILE, start=1)
    ]
    return build_tables(read_evaluations(folders), load_published())


def as_printed(name):
    return re.sub(r"[\r\n\u202e]", "\ufffd", name)


def test_markdown_keeps_every_cell_as_text(tables):
    tokens = MarkdownIt("commonmark").enable("table").parse(render_markdown(tables))
    inline = [child for token in tokens if token.type == "inline" for child in token.children]
    assert {child.type for child in inline} <= {"text", "text_special", "strong_open", "strong_close", "softbreak"}
    assert {token.type.removesuffix("_open").removesuffix("_close") for token in tokens} == {
        *("heading", "inline", "blockquote", "paragraph", "table", "thead", "tbody", "tr", "th", "td"),
        *("ordered_list", "list_item"),
    }
    rendered = [
        "".join(child.content for child in token.children)
        for before, token in zip(tokens, tokens[1:], strict=False)
        if before.type == "td_open"
    ]
    assert [re.sub(r"(\[\d+\])+$", "", text) for text in rendered] == [
        as_printed(cell.text) for table in tables for row in table.rows for cell in row.cells
    ]
    assert sum(token.type == "table_open" for token in tokens) == len(tables) == 5


def test_html_keeps_every_cell_as_text_and_is_self_contained(tables):
    page = render_html(tables)
    parser = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False)
    document = parser.parse(page)
    elements = {element.tag for element in document.iter() if isinstance(element.tag, str)}
    assert elements <= set(
        "html head meta title style body h1 h2 section p div table thead tbody tr th td strong sup a ol li".split()
    )
    attributes = {name for element in document.iter() for name in element.attrib}
    assert attributes <= {"lang", "charset", "http-equiv", "content", "name", "id", "class", "scope", "href"}
    assert all(link.attrib["href"].startswith("#") for link in document.iter("a"))
    ids = {element.attrib["id"] for element in document.iter() if "id" in element.attrib}
    assert {link.attrib["href"][1:] for link in document.iter("a")} <= ids
    shown = []
    for row in document.iter("tr"):
        for cell in [*row]:
            if row[0].attrib.get("scope") == "row":
                text = "".join(cell.itertext())
                marks = "".join("".join(mark.itertext()) for mark in cell.iter("sup"))
                shown.append(text.removesuffix(marks))
    assert shown == [as_printed(cell.text) for table in tables for row in table.rows for cell in row.cells]


def test_latex_has_only_our_commands_and_balanced_braces_columns_and_environments(tables):
    text = "\n".join(line for line in render_latex(tables).splitlines() if not line.startswith("%"))
    assert set(re.findall(r"\\[A-Za-z]+", re.sub(r"\\\\", "", text))) <= LATEX_COMMANDS
    plain = re.sub(r"\\[\\{}$&#%_]", "", text)
    assert "%" not in plain and "#" not in plain and "_" not in plain and "~" not in plain
    assert plain.count("$") % 2 == 0
    depth = 0
    for character in plain:
        depth += (character == "{") - (character == "}")
        assert depth >= 0
    assert depth == 0

    open_environments = []
    for kind, name in re.findall(r"\\(begin|end)\{([a-z]+)\}", plain):
        if kind == "begin":
            open_environments.append(name)
        else:
            assert open_environments.pop() == name
    assert open_environments == []

    bodies = re.findall(r"\\begin\{tabular\}\{([lr]+)\}\n(.*?)\\end\{tabular\}", text, re.DOTALL)
    assert len(bodies) == len(tables)
    for (alignment, body), table in zip(bodies, tables, strict=True):
        rows = [line for line in body.splitlines() if line.endswith(r"\\")]
        assert len(rows) == len(table.rows) + 1
        assert len(alignment) == len(table.columns)
        for row in rows:
            assert len(re.findall(r"(?<!\\)&", row)) == len(table.columns) - 1
            # A bracket at the start would be the argument of the row before.
            assert not row.startswith(("[", "*"))


def test_latex_text_reads_as_the_name_when_its_escapes_are_undone():
    name = r"50% of a_b & {c} $d$ #e ^f ~g \h <i> |j| [k]"
    table = Table("t", "title", ("System",), 1, [Row("own", (Cell(name),))])
    row = next(line for line in render_latex([table]).splitlines() if line.startswith("50"))
    for escaped, character in {
        r"\textbackslash{}": "\x01",
        r"\textasciicircum{}": "^",
        r"\textasciitilde{}": "~",
        r"\textless{}": "<",
        r"\textgreater{}": ">",
        r"\textbar{}": "|",
        "{[}": "[",
        "{]}": "]",
    }.items():
        row = row.replace(escaped, character)
    assert re.sub(r"\\([{}$&#%_])", r"\1", row.removesuffix(r" \\")).replace("\x01", "\\") == name


def test_best_published_value_is_bold_in_every_format():
    table = Table(
        "t", "title", ("System", "R-1"), 1, [Row("published", (Cell("x", notes=(1,)), Cell("44.29", best=True)))]
    )
    table.note("source")
    assert "| x[1]   | **44.29** |" in render_markdown([table])
    assert r"x\textsuperscript{1} & \textbf{44.29} \\" in render_latex([table])
    assert "<td><strong>44.29</strong></td>" in render_html([table])
