"""What tests of several folders share."""

import pytest

from spectra_sum.models.loaded import LoadedModel
from spectra_sum.models.loading import load_any
from spectra_sum.models.sources import ModelError, find_smollm2


@pytest.fixture(scope="session")
def loaded_smollm2() -> LoadedModel:
    """Unpacking its weights and its tokenizer takes long."""
    try:
        find_smollm2()
    except ModelError as error:
        pytest.skip(str(error))
    return load_any("smollm2")
