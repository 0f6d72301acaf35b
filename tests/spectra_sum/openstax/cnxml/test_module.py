"""Modules: what is text, what is a figure, and what stands in the place of links."""

import pytest

from spectra_sum.openstax.cnxml.module import Module
from tests.spectra_sum.openstax.books import SUMMARY, figure, parsed


def module(content):
    return Module("m1", parsed(content))


def body(content, numbers=None):
    return module(content).body(numbers or {})


MATH = "<m:math><m:msup><m:mi>x</m:mi><m:mn>2</m:mn></m:msup></m:math>"


@pytest.mark.parametrize(
    ("content", "paragraphs"),
    [
        ("<para>One\n  <emphasis effect='bold'>two</emphasis><newline/>three.</para>", ["One two three."]),
        ("<section><title>Heading</title><para>One.</para></section>", ["One."]),
        ("<para>A <term>zoo</term>, a <link url='http://x.y'>link</link> and <link url='http://x.y'/>.</para>",
         ["A zoo, a link and."]),
        ("<para>Ten.<footnote id='f'>Smith 2001.</footnote> Eleven.</para>", ["Ten. Eleven."]),
        (f"<para>The square {MATH} is 10<sup>–34</sup>, the 2<sup>nd</sup> H<sub>2</sub>O.</para>",
         ["The square x² is 10⁻³⁴, the 2nd H2O."]),
        ("<para>Left<newline/> . . . right , .5</para>", ["Left... right, .5"]),
        # Each item once, also in a list in an item or in a paragraph.
        ("<list><item>A<list><item>b</item><item>c</item></list></item><item><para>d</para><para>e</para></item></list>",
         ["A", "b", "c", "d", "e"]),
        ("<para>Two:<list><item>a</item></list>and so on.</para>", ["Two:", "a", "and so on."]),
        ("<para>Two: <list display='inline'><item>a</item><item>b</item></list>.</para>", ["Two: a b."]),
        ("<quote><para>Be brief.</para></quote><para><quote display='inline'>So</quote> he said.</para>",
         ["Be brief.", "So he said."]),
        ("<para>Before.</para><equation id='e'><m:math><m:mi>x</m:mi></m:math></equation>", ["Before."]),
        ("<para>One.</para><table><tgroup><tbody><row><entry>Cell</entry></row></tbody></tgroup></table>", ["One."]),
        ("<para>One.</para><exercise><problem><para>Why?</para></problem></exercise>", ["One."]),
        ("<example><title>E</title><para>An example.</para><exercise><problem><para>Why?</para></problem></exercise></example>",
         ["An example."]),
        ("<note class='everyday'><title>N</title><para>A note.</para></note>", ["A note."]),
        ("<note class='anatomy interactive'><para>Watch this video.</para></note><para>One.</para>", ["One."]),
        ("<section class='learning-objectives'><para>You will be able to:</para></section><para>One.</para>", ["One."]),
        ("<para>One.</para><section class='references'><para>Smith.</para></section>", ["One."]),
        ("<para>One.</para><section class='multiple-choice'><exercise/></section>", ["One."]),
        ("<para>One.</para><section><title>T</title><exercise><problem><para>Why?</para></problem></exercise></section>",
         ["One."]),
        # Text after the summary is text.
        (f"<para>One.</para>{SUMMARY}<note><para>Two.</para></note>", ["One.", "Two."]),
        ("<definition><term>Cell</term> <meaning>a unit of life</meaning></definition>", ["Cell a unit of life"]),
        ("<para> </para><para/>", []),
    ],
)  # fmt: skip
def test_body(content, paragraphs):
    assert body(content) == paragraphs


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("Cells (<link target-id='f1'/>) divide.", "Cells (Figure 1) divide."),
        ("Cells (see <link target-id='f1' document='m1'/>) divide.", "Cells (see Figure 1) divide."),
        ("In <link target-id='f1' document=''/>, cells divide.", "In Figure 1, cells divide."),
        # Not in the article: a figure that was left out, a table, an equation, another module's.
        ("Cells (<link target-id='f9'/>) divide.", "Cells divide."),
        ("Cells (see also <link target-id='t1'/> and <link target-id='f9'/>) divide.", "Cells divide."),
        (
            "Cells (<link target-id='f1'/> and <link target-id='t1'/>) divide.",
            "Cells (Figure 1 and the table) divide.",
        ),
        (
            "<link target-id='t1'/> lists them. <link target-id='f9'/> shows one.",
            "The table lists them. The figure shows one.",
        ),
        ("They stand in <link target-id='t1'/>.", "They stand in the table."),
        ("The <link target-id='t1'/> lists them.", "The table lists them."),
        ("In <link target-id='f9'/> and <link target-id='f9'/>.", "In the figures."),
        ("By <link target-id='e1'/>, it is 2.", "By the equation, it is 2."),
        ("As <link target-id='fig-2' document='m2'/> shows.", "As the figure shows."),
        ("As told in <link document='m2'/>.", "As told in another section."),
        ("As told in <link document='m2'>Chapter 2</link>.", "As told in Chapter 2."),
        ("An exercise <link class='os-embed' url='#exercise/x'/>here.", "An exercise here."),
    ],
)
def test_links(content, text):
    others = figure("f9") + "<table id='t1'/><equation id='e1'/>"
    assert body(f"<para>{content}</para>{others}", {"f1": 1}) == [text]


def test_summary_is_paragraphs_and_items_of_the_classed_section():
    summary = (
        "<section class='section-summary'><title>S</title><para>One (<link target-id='f1'/>).</para>"
        "<list><item>Two.</item></list></section>"
    )
    found = module(f"<para>Text.</para>{figure('f1')}{summary}")
    assert found.has_summary and found.summary({"f1": 1}) == ["One (Figure 1).", "Two."]
    assert not module("<section class='key-terms'><para>Cell.</para></section>").has_summary


def test_figures_are_those_of_the_body_in_its_order():
    content = (
        f"<para>One.{figure('f1')}</para><note>{figure('f2')}</note><section>{figure('f3')}</section>"
        f"<exercise><problem>{figure('f4')}</problem></exercise>{SUMMARY}<list><item>{figure('f5')}</item></list>"
        f"<section class='references'>{figure('f6')}</section>"
    )
    found = module(content).figures
    assert [source.ids for source in found] == [["f1"], ["f2"], ["f3"], ["f5"]]
    assert found[0].address == "../../media/f1.png" and found[0].alt == "A cell."


def test_parts_of_a_figure_are_figures():
    part = "<subfigure id='{}'><media alt='{}'><image src='{}.png'/></media>{}</subfigure>".format
    parts = part("a", "Part a.", "a", "<caption>A.</caption>") + part("b", "Part b.", "b", "")
    found = module(f"<figure id='f'>{parts}<caption>Both.</caption></figure>").figures
    assert [(source.ids, source.address, source.alt) for source in found] == [
        (["a", "f"], "a.png", "Part a."),
        (["b"], "b.png", "Part b."),
    ]
    reader = module("<para/>")
    assert [reader.line(source.caption, {}) for source in found] == ["A.", "Both."]


def test_the_image_is_not_the_one_for_print():
    images = "<image src='print.eps' for='pdf'/><image src='screen.png'/>"
    [found] = module(f"<figure id='f'><media alt=' a \n cell '>{images}</media></figure>").figures
    assert (found.address, found.alt) == ("screen.png", "a cell")
    [video] = module("<figure id='f'><media alt='a film'><iframe src='x'/></media></figure>").figures
    assert video.address == ""
