"""XML without entities, without fetching, and not too deep."""

import pytest

from spectra_sum.openstax.cnxml.xml_reading import MAX_DEPTH, XMLDamage, parse_xml


def read(tmp_path, text):
    file = tmp_path / "index.cnxml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return parse_xml(file)


def test_names_have_their_namespace(tmp_path):
    root = read(tmp_path, '<a xmlns="x" xmlns:y="y" y:k="v" id="i"><y:b>t<c/>u</y:b></a>')
    assert (root.tag, root.attrib) == ("{x}a", {"{y}k": "v", "id": "i"})
    assert root[0].tag == "{y}b" and "".join(root.itertext()) == "tu"


BOMB = '<!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;&b;">]><a>&c;</a>'
FILE = '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>'
PARAMETER = '<!DOCTYPE a [<!ENTITY % b SYSTEM "http://127.0.0.1:9/x.dtd"> %b;]><a/>'


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (BOMB, "it declares the entity 'b'"),
        (FILE, "it declares the entity 'b'"),
        (PARAMETER, "it declares the entity 'b'"),
        ('<!DOCTYPE a PUBLIC "-//CNX" "http://127.0.0.1:9/x.dtd"><a>&nbsp;</a>', "it uses the entity 'nbsp'"),
        ("<a>&nbsp;</a>", "not well-formed"),
        ("<a>", "not well-formed"),
        ("", "not well-formed"),
        (b'<?xml version="1.0" encoding="no-such"?><a/>', "not well-formed|encoding"),
        ("<a>" * (MAX_DEPTH + 1) + "</a>" * (MAX_DEPTH + 1), "nested more than"),
    ],
)
def test_damage(text, reason, tmp_path):
    with pytest.raises(XMLDamage, match=reason):
        read(tmp_path, text)


def test_a_document_type_alone_is_read_and_not_fetched(tmp_path):
    assert read(tmp_path, '<!DOCTYPE a PUBLIC "-//CNX" "http://127.0.0.1:9/x.dtd"><a>&amp;&#233;</a>').text == "&é"


def test_a_large_file_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("spectra_sum.openstax.cnxml.xml_reading.MAX_BYTES", 10)
    with pytest.raises(XMLDamage, match="more than 10 bytes"):
        read(tmp_path, "<a>0123456789</a>")
