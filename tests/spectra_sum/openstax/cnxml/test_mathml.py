"""Formulas on one line."""

from xml.etree.ElementTree import fromstring

import pytest

from spectra_sum.openstax.cnxml.mathml import linear, superscript


@pytest.mark.parametrize(
    ("formula", "text"),
    [
        ("<mrow><mi>E</mi><mo>=</mo><mi>m</mi><msup><mi>c</mi><mn>2</mn></msup></mrow>", "E = mc²"),
        ("<mfrac><mn>1</mn><mn>2</mn></mfrac>", "1/2"),
        ("<mfrac><mrow><mi>a</mi><mo>+</mo><mi>b</mi></mrow><mi>c</mi></mfrac>", "(a + b)/c"),
        ("<mrow><mn>10</mn><mo>×</mo><msup><mn>10</mn><mrow><mo>−</mo><mn>34</mn></mrow></msup></mrow>", "10 × 10⁻³⁴"),
        ("<msup><mi>e</mi><mrow><mi>k</mi><mi>t</mi></mrow></msup>", "e^kt"),
        ("<msub><mi>P</mi><msub><mi>O</mi><mn>2</mn></msub></msub>", "PO2"),
        ("<msubsup><mi>x</mi><mi>i</mi><mn>2</mn></msubsup>", "xi²"),
        ("<msqrt><mi>x</mi><mo>+</mo><mn>1</mn></msqrt>", "√(x + 1)"),
        ("<mroot><mi>x</mi><mn>3</mn></mroot>", "³√x"),
        ("<mrow><mi>f</mi><mo>&#8289;</mo><mfenced><mi>x</mi><mi>y</mi></mfenced></mrow>", "f(x, y)"),
        ("<mover><mi>x</mi><mo>¯</mo></mover>", "x"),
        (
            "<mtable><mtr><mtd><mi>a</mi></mtd><mtd><mi>b</mi></mtd></mtr><mtr><mtd><mi>c</mi></mtd></mtr></mtable>",
            "a, b; c",
        ),
        ('<semantics><mi>x</mi><annotation encoding="TeX">\\x</annotation></semantics>', "x"),
        ("<mrow>\n <mtext>about </mtext>\n <mn>3</mn><mspace/><mtext>km</mtext></mrow>", "about 3 km"),
    ],
)
def test_linear(formula, text):
    root = fromstring(f'<math xmlns="http://www.w3.org/1998/Math/MathML">{formula}</math>')
    assert linear(root) == text


def test_superscripts_only_where_there_are_characters():
    assert superscript("-12") == "⁻¹²" and superscript("n+1") == "ⁿ⁺¹"
    assert superscript("th") is None and superscript("") is None
