"""The character set of an HTML file."""

import codecs

from bs4.dammit import EncodingDetector

from ..parts import DocumentError, printable

# Where browsers look for it.
_PRESCANNED_BYTES = 1024
# Python's codecs for the legacy encodings of the WHATWG Encoding Standard, each with the superset that browsers take.
_ENCODINGS = {
    **{name: name for name in ("big5hkscs", "cp866", "cp874", "cp932", "cp949", "euc_jp", "gb18030", "iso2022_jp")},
    **{name: name for name in ("koi8-r", "koi8-u", "mac-cyrillic", "mac-roman", "utf-8")},
    **{f"cp{number}": f"cp{number}" for number in range(1250, 1259)},
    **{f"iso8859-{part}": f"iso8859-{part}" for part in (2, 3, 4, 5, 6, 7, 8, 10, 13, 14, 15, 16)},
    **{"ascii": "cp1252", "iso8859-1": "cp1252", "iso8859-9": "cp1254", "iso8859-11": "cp874", "tis-620": "cp874"},
    **{"big5": "big5hkscs", "gb2312": "gb18030", "gbk": "gb18030", "shift_jis": "cp932", "euc_kr": "cp949"},
}


def decode_html(data: bytes, shown: str) -> str:
    """
    The text of an HTML file: by its byte order mark, else by the character set it declares in its first 1,024 bytes,
    else UTF-8.

    A page that declares a set which it is not in, or which browsers do not know, is read as UTF-8 when it is that.
    Latin-1 stands for Windows-1252, as in browsers.

    Args:
        data (`bytes`):
            The file.
        shown (`str`):
            Its name in an error.

    Raises:
        DocumentError: The bytes are in neither.
    """
    data, marked = EncodingDetector.strip_byte_order_mark(data)
    declared = EncodingDetector.find_declared_encoding(data[:_PRESCANNED_BYTES], is_html=True) or "utf-8"
    try:
        return data.decode(marked or _ENCODINGS[codecs.lookup(declared).name])
    except (LookupError, ValueError):
        pass
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        tried = "UTF-8" if declared == "utf-8" else f"UTF-8, nor is the page in {printable(declared)}"
        raise DocumentError(
            f"{shown}: byte {error.start} is not {tried}; save the page as UTF-8 or declare its <meta charset> within "
            f"the first {_PRESCANNED_BYTES:,} bytes."
        ) from None
