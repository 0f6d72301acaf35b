"""What a docstring says of its arguments."""

from trainer.command_line.docstrings import ArgumentHelp, argument_help

DOCSTRING = """Of something (`with`, *optional*): not an argument.

    Args:
        first (`str`): A sentence with `code` and a [`Link`].
        second, third (`int`, *optional*, defaults to `8`): Share a paragraph,
            which goes on here (with: a colon).
        fourth (`list[int]` or `tuple`, *optional*, defaults to `[8, 16]`):
            Begins in the next line.

            - and has a list
        fifth (`str`, *optional*, defaults to `"dvp"`): The last.

    Raises:
        sixth (`str`): Not an argument.
    """


def test_arguments_have_their_sentences_and_defaults():
    shared = ArgumentHelp("Share a paragraph, which goes on here (with: a colon).", "8")
    assert argument_help(DOCSTRING) == {
        "first": ArgumentHelp("A sentence with code and a Link.", None),
        "second": shared,
        "third": shared,
        "fourth": ArgumentHelp("Begins in the next line. - and has a list", "[8, 16]"),
        "fifth": ArgumentHelp("The last.", "dvp"),
    }


def test_a_docstring_without_arguments_describes_none():
    assert argument_help("Nothing.") == {}
    assert argument_help("Nothing.\n\nArgs:\n\nReturns:\n    x (`int`): no.") == {}
