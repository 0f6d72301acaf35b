"""What the command line tells a user in one line, without a traceback."""


class SpectraSumError(ValueError):
    """
    Something that the user can mend. The message is one line; it names the file or argument, and the fix.

    Attributes:
        exit_code (`int`): That of the command line: 2 for bad input, by default.
    """

    exit_code = 2
