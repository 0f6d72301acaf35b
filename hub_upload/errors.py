"""The error of everything that publishes."""

from spectra_sum.errors import SpectraSumError


class HubError(SpectraSumError):
    """A push that was refused or did not finish. The message is one line; it names the repository or file, and the fix."""

    exit_code = 1
