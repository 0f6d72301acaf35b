"""What a fresh process loads and writes must be the source's, down to each tensor."""

import pytest

from hub_upload.errors import HubError
from hub_upload.model.fresh_process import compare_loaded


@pytest.mark.parametrize(
    ("field", "value", "what"),
    [
        ("tensors", {"a": "1"}, "1 tensors of the source are not loaded, b among them"),
        ("tensors", {"a": "1", "b": "2", "c": "2", "d": "9"}, "1 loaded tensors are not in the source, d among them"),
        ("tokens", [[1, 3]], "tokens of the sample differ"),
        ("selected", [1], "selected of the sample differ"),
        ("pipeline", {"summary_text": "x", "selected_images": [{"index": 1}]}, "the pipeline's summary or images"),
        ("handler", {"summary_text": "y", "selected_images": [{"index": 0}]}, "'handler': the endpoint's answer"),
    ],
)
def test_every_difference_is_refused(field, value, what):
    outputs = {"tokens": [[1, 2]], "summary": "x", "selected": [0]}
    result = {
        **outputs,
        "tensors": {"a": "1", "b": "2", "c": "2"},
        "shared": {"a": "a", "b": "b", "c": "b", "d": "d"},
        "pipeline": {"summary_text": "x", "selected_images": [{"index": 0}]},
        "handler": {"summary_text": "x", "selected_images": [{"index": 0}]},
    }
    source = {"a": "1", "b": "2"}
    compare_loaded(result, source, outputs)
    with pytest.raises(HubError, match=what):
        compare_loaded({**result, field: value}, source, outputs)
