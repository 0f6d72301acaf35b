"""Words of any script for ROUGE, which by itself sees the letters a to z and digits only."""

import unicodedata
from collections.abc import Iterator

from rouge_score.tokenizers import DefaultTokenizer

# Written without spaces between words: each character is a token. By the beginning of the characters' Unicode names.
UNSPACED = ("CJK UNIFIED", "CJK COMPATIBILITY", "HIRAGANA", "KATAKANA", "THAI ", "LAO ", "KHMER ", "MYANMAR ")


class UnicodeTokenizer:
    """
    The rule, on a text that is normalised (NFKC) and case-folded:

    - A token is a run of letters, marks and numbers (the Unicode categories L, M and N).
    - In Chinese, Japanese, Thai, Lao, Khmer and Burmese, which put no spaces between words, each letter is a token, with the
      marks that follow it.
    - Tokens of a to z and digits alone are stemmed as `rouge_score` does it (Porter, from four characters on), so that a
      text in plain English scores the same with both tokenizers. Others are not stemmed.
    """

    def __init__(self) -> None:
        self._plain = DefaultTokenizer(use_stemmer=True)

    def tokenize(self, text: str) -> list[str]:
        """The tokens of a text, in order."""
        tokens = []
        for token in _runs(unicodedata.normalize("NFKC", text).casefold()):
            tokens += self._plain.tokenize(token) if token.isascii() else [token]
        return tokens


def in_another_script(text: str) -> bool:
    """
    Whether `rouge_score`'s own tokenizer would see little of a text: fewer than half of its letters are a to z.

    A text without letters is in no script.
    """
    letters = [character for character in text if character.isalpha()]
    return 2 * sum(character.isascii() for character in letters) < len(letters)


def _runs(text: str) -> Iterator[str]:
    token, alone = "", False
    for character in text:
        kind = unicodedata.category(character)[0]
        if kind == "M" and token:
            token += character
            continue
        unspaced = kind == "L" and unicodedata.name(character, "").startswith(UNSPACED)
        if kind not in "LMN" or unspaced or alone:
            if token:
                yield token
            token, alone = "", unspaced
        if kind in "LMN":
            token += character
    if token:
        yield token
