"""The error of everything that publishes."""


class HubError(ValueError):
    """A push that was refused or did not finish. The message is one line; it names the repository or file, and the fix."""
