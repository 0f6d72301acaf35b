"""The start of a script for a process that has the libraries but nothing of the project, as on another machine."""

PROJECT = ("configuration_spectra", "hub_upload", "modeling_spectra", "spectra_sum", "tests", "trainer")
WITHOUT_THE_PROJECT = f"""
import sys

PROJECT = set({PROJECT})


class WithoutTheProject:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in PROJECT:
            raise ModuleNotFoundError(f"{{name}} is not installed here")


sys.meta_path.insert(0, WithoutTheProject())
"""
