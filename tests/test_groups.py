"""How the tests are spread over processes."""

from pathlib import Path

import pytest


def test_the_tests_of_a_file_stay_in_one_process(request):
    """The scheduler reads a test's group from its id; in another process a file's fixtures would be made again."""
    if not getattr(request.config.option, "loadgroup", False):
        pytest.skip("needs pytest --dist loadgroup")
    assert request.node.nodeid.endswith(f"@{Path(__file__)}")
