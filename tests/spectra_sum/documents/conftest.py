import pytest

from spectra_sum.documents.reading import read_document


@pytest.fixture
def read(tmp_path):
    """Writes a document into the test's folder, and reads it."""

    def write_and_read(content, name="page.html"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_document(path)

    return write_and_read
