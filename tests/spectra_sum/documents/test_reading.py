import io
import os
import struct
import zlib

import pytest
from PIL import Image

from spectra_sum.documents.parts import DocumentError, printable
from spectra_sum.documents.reading import read_document
from tests.spectra_sum.documents.pages import kinds, save_image, write


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
        ("..\\secret.png", "outside_folder"),
        ("C:\\secret.png", "outside_folder"),
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
        ("icon.png", "small_image"),
    ],
)
def test_what_is_not_read_is_a_named_problem(tmp_path, source, kind):
    folder = tmp_path / "folder"
    (folder / "pictures").mkdir(parents=True)
    save_image(tmp_path / "secret.png", "red")
    save_image(tmp_path / "folder-next-door" / "secret.png", "red")
    save_image(folder / "kept.png", "green")
    save_image(folder / "icon.png", "green", (16, 16))
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
    for address in ("link.png", f"<{tmp_path}/real.png>", "./real.png?raw=true#x"):
        document = read_document(write(tmp_path / "doc.md", f"Text ![]({address})"))
        assert len(document.images) == 1 and document.problems == []


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
    save_image(tmp_path / "phone.png", "red", size=(80, 30), exif=exif)
    Image.new("RGBA", (32, 24), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    save_image(tmp_path / "large.jpg", "red", size=(3000, 1500))
    Image.new("L", (32, 24), 7).save(tmp_path / "grey.png")
    path = write(tmp_path / "doc.md", "Text ![](phone.png) ![](clear.png) ![](large.jpg) ![](grey.png)")
    phone, clear, large, grey = (image.image for image in read_document(path).images)
    assert phone.size == (30, 80)
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


def test_a_given_image_that_is_too_small_is_left_out_with_a_remark(tmp_path):
    images = [save_image(tmp_path / "icon.png", "red", (16, 16)), save_image(tmp_path / "a.png", "red")]
    document = read_document(write(tmp_path / "a.txt", "Text."), images)
    assert [image.name for image in document.images] == ["a.png"]
    assert [str(problem) for problem in document.problems] == [
        "small image: icon.png: it has 16 × 16 pixels; images of less than 24 a side are not the article's"
    ]
