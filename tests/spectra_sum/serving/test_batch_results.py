"""Greedy summaries do not depend on who shares the batch; with a tiny model behind the server."""

from functools import partial

import pytest

from spectra_sum.serving.answers import ServedModel
from spectra_sum.serving.application import create_app
from spectra_sum.serving.settings import Settings
from spectra_sum.summaries.options import SummaryOptions
from spectra_sum.summaries.summarizer import Summarizer
from tests.hashing_encoder import HashingEncoder
from tests.spectra_sum.serving.live import in_background, served
from tests.spectra_sum.serving.test_summarize_api import ROUTE, encoded
from tests.spectra_sum.summaries.setup import SENTENCES, loaded_model


@pytest.mark.parametrize(("trained", "kind"), [(True, "spectra-sum"), (False, "causal")])
def test_an_answer_is_the_same_in_any_company(float64, trained, kind):
    import httpx

    make = partial(_summarizer, loaded_model(trained=trained, kind=kind))
    # Of different lengths, and with 0 to 3 images.
    requests = [
        {
            "title": f"Title {count}",
            "text": " ".join(SENTENCES[: 1 + count]),
            "images": [{"data": encoded(seed), "caption": f"Ship {seed}"} for seed in range(count)],
            "options": {"max_new_tokens": 24},
        }
        for count in range(4)
    ]
    settings = Settings(max_wait=3, max_batch=4)
    app = create_app(make, SummaryOptions(), settings, ServedModel("tiny", None))
    with served(app) as url, httpx.Client(base_url=url, timeout=60) as client:
        together = [in_background(client.post, ROUTE, json=request) for request in requests]
        together = [call.answer().json() for call in together]
        assert "spectra_sum_batch_size_sum 4.0" in client.get("/metrics").text
        assert "spectra_sum_batch_size_count 1.0" in client.get("/metrics").text
    app = create_app(make, SummaryOptions(), Settings(max_wait=0), ServedModel("tiny", None))
    with served(app) as url, httpx.Client(base_url=url, timeout=60) as client:
        alone = [client.post(ROUTE, json=request).json() for request in requests]
    for one, other in zip(together, alone, strict=True):
        assert one["summary"] == other["summary"] != ""
        assert one["remarks"] == other["remarks"] and one["usage"] == other["usage"]
        assert [image["selected"] for image in one["images"]] == [image["selected"] for image in other["images"]]
        for name in ("probability", "score"):
            assert [image[name] for image in one["images"]] == pytest.approx(
                [image[name] for image in other["images"]]
            )
        weights = [sentence["image_weights"] for sentence in one["sentences"] if sentence["image_weights"]]
        others = [sentence["image_weights"] for sentence in other["sentences"] if sentence["image_weights"]]
        assert len(weights) == len(others)
        for pair in zip(weights, others, strict=True):
            assert pair[0] == pytest.approx(pair[1])


def _summarizer(loaded, options):
    return Summarizer(loaded, options, HashingEncoder())
