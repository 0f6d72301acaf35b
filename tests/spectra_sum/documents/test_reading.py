import io
import os
import struct
import time
import zlib
from collections import Counter

import pytest
from PIL import Image

from spectra_sum.documents.parts import DocumentError, printable
from spectra_sum.documents.reading import read_document


def save_image(path, colour, size=(4, 3), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, **options)
    return path


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def kinds(document):
    return Counter(problem.kind for problem in document.problems)


def test_markdown_title_body_and_images_in_order(tmp_path):
    save_image(tmp_path / "red.png", (255, 0, 0))
    save_image(tmp_path / "img" / "blue one.png", (0, 0, 255))
    path = write(
        tmp_path / "doc.md",
        "---\ntitle: From the front matter\n---\n\n# The *main* title\n\nFirst `line`\nsecond line.\n\n"
        "![a *red* thing](red.png) Text beside [a link](https://example.org/).\n\n"
        "## Part two\n\n- one\n- two\n\n[![blue][pic]](https://example.org/)\n\n"
        "```\ncode <b>\n```\n\n[pic]: <img/blue one.png>\n",
    )
    document = read_document(path)
    assert (document.id, document.source, document.title) == ("doc", str(path), "The main title")
    assert document.body == ("First line second line.\n\nText beside a link.\n\nPart two\n\none\n\ntwo\n\ncode <b>")
    assert [(image.name, image.alt) for image in document.images] == [
        ("red.png", "a red thing"),
        ("img/blue one.png", "blue"),
    ]
    assert [image.image.getpixel((0, 0)) for image in document.images] == [(255, 0, 0), (0, 0, 255)]
    assert document.problems == []


@pytest.mark.parametrize(
    "text, title, body",
    [
        ("---\ntitle: Front\n---\n\n## Section\n\nText.", "Front", "Section\n\nText."),
        ("Opening.\n\n## Section\n\nText.", "Section", "Opening.\n\nText."),
        ("## Kicker\n\n# Main\n\nText.", "Main", "Kicker\n\nText."),
        ("Only text.", "my-file", "Only text."),
        ("---\ntitle: [not, a, string]\n---\n\nText.", "my-file", "Text."),
        ("Main\n====\n\nText.", "Main", "Text."),
    ],
)
def test_markdown_title(tmp_path, text, title, body):
    document = read_document(write(tmp_path / "my-file.md", text))
    assert (document.title, document.body) == (title, body)
    assert document.problems == []


def test_broken_front_matter_is_reported(tmp_path):
    document = read_document(write(tmp_path / "a.md", "---\ntitle: 'open\n---\n\nText.\n"))
    assert (document.title, document.body, kinds(document)) == ("a", "Text.", {"front_matter": 1})


@pytest.mark.parametrize(
    "source, kind",
    [
        ("https://example.org/a.png", "remote_image"),
        ("HTTP://example.org/a.png", "remote_image"),
        ("//example.org/a.png", "remote_image"),
        ("ftp://example.org/a.png", "remote_image"),
        ("data:image/png;base64,iVBORw0KGgo=", "unsupported_image"),
        ("data:text/html,x", "unsupported_image"),
        ("javascript:alert(1)", "unsupported_image"),
        ("file:secret.png", "unsupported_image"),
        ("http://[::1", "remote_image"),
        ("//[a:]/b.png", "unsupported_image"),
        ("../secret.png", "outside_folder"),
        ("%2e%2e/secret.png", "outside_folder"),
        ("..%2Fsecret.png", "outside_folder"),
        ("pictures/../../secret.png", "outside_folder"),
        ("{outside}/secret.png", "outside_folder"),
        ("link.png", "outside_folder"),
        ("linked-folder/secret.png", "outside_folder"),
        ("../folder-next-door/secret.png", "outside_folder"),
        ("none.png", "missing_image"),
        ("pictures", "missing_image"),
        ("pipe.png", "missing_image"),
        ("a%00b.png", "missing_image"),
        ("x" * 5000 + ".png", "missing_image"),
        ("", "missing_image"),
        ("#fragment", "missing_image"),
        ("loop.png", "missing_image"),
        ("text.png", "broken_image"),
        ("vector.svg", "broken_image"),
        ("cut.png", "broken_image"),
        ("cut.jpg", "broken_image"),
        ("script.eps", "broken_image"),
        ("bomb.png", "oversized_image"),
    ],
)
def test_what_is_not_read_is_a_named_problem(tmp_path, source, kind):
    folder = tmp_path / "folder"
    (folder / "pictures").mkdir(parents=True)
    save_image(tmp_path / "secret.png", "red")
    save_image(tmp_path / "folder-next-door" / "secret.png", "red")
    save_image(folder / "kept.png", "green")
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    (folder / "linked-folder").symlink_to(tmp_path)
    (folder / "loop.png").symlink_to(folder / "loop.png")
    os.mkfifo(folder / "pipe.png")
    write(folder / "text.png", "no image")
    write(folder / "vector.svg", "<svg xmlns='http://www.w3.org/2000/svg'/>")
    for name in ("cut.png", "cut.jpg", "script.eps"):
        buffer = io.BytesIO()
        Image.effect_noise((64, 64), 50).convert("RGB").save(
            buffer, {"png": "PNG", "jpg": "JPEG", "eps": "EPS"}[name[-3:]]
        )
        data = buffer.getvalue()
        (folder / name).write_bytes(data if name.endswith("eps") else data[: len(data) // 2])
    (folder / "bomb.png").write_bytes(png_header_of(10_000, 10_000))

    source = source.replace("{outside}", str(tmp_path))
    document = read_document(write(folder / "doc.md", f"Text.\n\n![bad](<{source}>)\n\n![good](kept.png)\n"))
    assert kinds(document) == {kind: 1}
    assert [image.name for image in document.images] == ["kept.png"]
    assert document.body == "Text."


def png_header_of(width, height):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_links_and_absolute_paths_inside_the_folder_are_read(tmp_path):
    save_image(tmp_path / "real.png", "red")
    (tmp_path / "link.png").symlink_to("real.png")
    path = write(tmp_path / "doc.md", f"Text ![](link.png) ![](<{tmp_path}/real.png>) ![](./real.png?raw=true#x)")
    document = read_document(path)
    assert len(document.images) == 3 and document.problems == []


def test_raw_html_is_reported_and_not_followed(tmp_path):
    save_image(tmp_path / "a.png", "red")
    text = "Text <img src='a.png'> more <b>bold</b>.\n\n<div>hidden words <IMG src=a.png></div>\n\n<!-- note -->\n"
    document = read_document(write(tmp_path / "doc.md", text))
    assert document.images == []
    assert document.body == "Text more bold."
    assert kinds(document) == {"unsupported_image": 2, "raw_html": 1}
    assert "hidden words" in str(document.problems[-1])


def test_text_with_its_own_images(tmp_path):
    first = save_image(tmp_path / "elsewhere" / "a.jpg", (250, 10, 10))
    second = save_image(tmp_path / "b.png", (0, 0, 255))
    path = write(tmp_path / "texts" / "note.txt", "A headline\n\nOne line\nand the next.\r\n\r\n\r\nLast. ![x](b.png)")
    document = read_document(path, images=[first, second])
    assert document.title == "A headline"
    assert document.body == "One line and the next.\n\nLast. ![x](b.png)"
    assert [image.name for image in document.images] == ["a.jpg", "b.png"]
    assert document.images[1].image.getpixel((0, 0)) == (0, 0, 255)


@pytest.mark.parametrize("text", ["A full sentence.\n\nMore.", "two\nlines\n\nMore", "x" * 121 + "\n\nMore", "Alone"])
def test_text_without_a_headline_is_titled_by_its_file(tmp_path, text):
    document = read_document(write(tmp_path / "note.txt", text))
    assert document.title == "note"
    assert document.body.split() == text.split()


def test_an_article_in_the_msmo_layout_keeps_its_reference_apart(tmp_path):
    text = "@title\nA storm\n\n@body\nIt blew\nhard.\n\nThen not.\n\n@summary\nIt blew.\nIt stopped.\n"
    document = read_document(write(tmp_path / "0a1b.txt", text))
    assert (document.title, document.body) == ("A storm", "It blew hard.\n\nThen not.")
    assert document.reference == "It blew.\nIt stopped."
    assert read_document(write(tmp_path / "b.txt", "mail to me@title.org\n\n@body x")).reference is None


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("a.txt", b"", "empty"),
        ("a.md", b"\xef\xbb\xbf \n\n ", "empty"),
        ("a.md", b"# Only a title\n", "no body text"),
        ("a.md", b"![](x.png)", "no body text"),
        ("a.txt", b"caf\xe9 is Latin-1", "byte 3 is not UTF-8"),
        ("a.txt", b"binary\0data", "NUL"),
        ("a.docx", b"PK", "unsupported file type '.docx'"),
        ("a", b"text", "unsupported file type ''"),
    ],
)
def test_unreadable_documents_name_the_file(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DocumentError) as error:
        read_document(path)
    assert str(path) in str(error.value) and message in str(error.value)


def test_folder_and_missing_path(tmp_path):
    with pytest.raises(DocumentError, match="this is a folder"):
        read_document(tmp_path)
    with pytest.raises(DocumentError, match="there is no such file"):
        read_document(tmp_path / "none" / "a.md")


def test_given_images_must_be_readable_and_go_with_text(tmp_path):
    text, markdown = write(tmp_path / "a.txt", "Text"), write(tmp_path / "a.md", "Text")
    broken = write(tmp_path / "broken.jpg", "no image")
    with pytest.raises(DocumentError, match="broken.jpg.*no image in one of the formats"):
        read_document(text, images=[broken])
    with pytest.raises(DocumentError, match="missing.jpg.*no such file"):
        read_document(text, images=[tmp_path / "missing.jpg"])
    with pytest.raises(DocumentError, match="a.md.*go with a .txt"):
        read_document(markdown, images=[save_image(tmp_path / "ok.png", "red")])


def test_images_come_upright_opaque_and_bounded(tmp_path):
    exif = Image.Exif()
    exif[274] = 6  # stored rotated by 90 degrees
    save_image(tmp_path / "phone.png", "red", size=(8, 2), exif=exif)
    Image.new("RGBA", (2, 2), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    save_image(tmp_path / "large.jpg", "red", size=(3000, 1500))
    Image.new("L", (2, 2), 7).save(tmp_path / "grey.png")
    path = write(tmp_path / "doc.md", "Text ![](phone.png) ![](clear.png) ![](large.jpg) ![](grey.png)")
    phone, clear, large, grey = (image.image for image in read_document(path).images)
    assert phone.size == (2, 8)
    assert clear.getpixel((0, 0)) == (255, 255, 255)
    assert large.size == (1024, 512)
    assert grey.getpixel((0, 0)) == (7, 7, 7)
    assert {image.mode for image in (phone, clear, large, grey)} == {"RGB"}


def test_control_characters_do_not_reach_the_reader(tmp_path):
    save_image(tmp_path / "a.png", "red")
    path = write(
        tmp_path / "doc.md", "# T&#27;[31m \u202etitle\n\nBody\x1b[2J &#27; ![al\x07t](a.png) ![](n%1bone.png)"
    )
    document = read_document(path)
    texts = [document.title, document.body, document.images[0].alt, str(document.problems[0])]
    assert not any(character in text for text in texts for character in "\x1b\x07\u202e")
    assert document.title == "T\ufffd[31m \ufffdtitle"
    assert printable("a\tb\ud800") == "a b\ufffd"
    assert printable("na\u00efve \u2013 caf\u00e9\u00a0\U0001f600") == "na\u00efve \u2013 caf\u00e9\u00a0\U0001f600"


def test_a_file_name_that_is_no_unicode(tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.txt")
    with open(path, "w") as file:
        file.write("Text")
    document = read_document(path)
    assert document.id == "caf\ufffd"
    document.source.encode("utf-8")


@pytest.mark.parametrize(
    "text, message",
    [("![" * 10_001, "more than 10,000 opening brackets"), ("a" * 1_000_001, "the limit is 1,000,000")],
)
def test_markdown_that_would_take_long_is_refused(tmp_path, text, message):
    with pytest.raises(DocumentError, match=message):
        read_document(write(tmp_path / "a.md", text))


def test_unclosed_raw_html_takes_linear_time(tmp_path):
    start = time.perf_counter()
    text = "Text.\n\n<div>" + "<!--" * 100_000 + "<a " * 100_000
    assert kinds(read_document(write(tmp_path / "a.md", text))) == {"raw_html": 1}
    assert time.perf_counter() - start < 10


def test_images_of_markdown_are_limited_and_decoded_once(tmp_path):
    save_image(tmp_path / "a.png", "red")
    document = read_document(write(tmp_path / "a.md", "Text. " + "![](a.png) " * 201))
    assert len(document.images) == 200 and len({id(image.image) for image in document.images}) == 1
    assert [str(problem) for problem in document.problems] == [
        "image limit: 1 images after the first 200 are not read"
    ]
