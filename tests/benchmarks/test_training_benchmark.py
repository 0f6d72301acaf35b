"""The training benchmark at a size whose times mean nothing: equal work in all variants, its profile, and its result file."""

import json
import os
from pathlib import Path

import pytest
import torch

from benchmarks.overhead_models import SIZES
from benchmarks.training import Bench, main, parse_options
from benchmarks.training_results import VARIANTS, describe_bar, evaluate_bar, render_summary
from tests.forked_process import run

ROOT = Path(__file__).parents[2]
MEASURE = """
import sys
import torch
from benchmarks.training import main

earlier = torch.ones(100_000_000)
del earlier
main(["--size", "test", "--peak-memory-of", "embeddings/three", "--output", sys.argv[1]])
"""


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, str, list[tuple[dict, str]]]:
    output = tmp_path_factory.mktemp("training") / "results" / "training.json"
    before_profile, profiled_step = [], Bench.profiled_step

    def read() -> tuple[dict, str]:
        return json.loads(output.read_text()), output.with_suffix(".md").read_text()

    def reading_first(bench: Bench, variant: tuple[str, str]) -> dict:
        before_profile.append(read())
        return profiled_step(bench, variant)

    options = ["--size", "test", "--turns", "2", "--warmups", "0", "--images", "6", "--no-memory"]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Bench, "profiled_step", reading_first)
        main([*options, "--output", str(output)])
    return *read(), before_profile


@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").is_file(), reason="the system does not tell a process its memory"
)
def test_memory_is_that_of_the_step_and_not_of_what_was_before(tmp_path):
    # In a process of its own: this one gives back meanwhile what other tests have left.
    (tmp_path / "measure.py").write_text(MEASURE)
    done = run([str(tmp_path / "measure.py"), str(tmp_path / "x.json")], ROOT, os.environ)
    assert done.returncode == 0, done.stderr[-3000:]
    memory = json.loads(done.stdout)
    assert memory["before"] <= memory["peak"] < memory["before"] + 4 * 50_000_000


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    options = parse_options(["--size", "test", "--output", str(tmp_path / "x.json")])
    options.dtype = "float64"
    return Bench(options, tmp_path)


@pytest.mark.usefixtures("float64")
def test_all_variants_do_the_same_work_on_the_same_articles(bench):
    losses = {}
    for cache, kind in VARIANTS:
        bench.set_losses(kind)
        trainer, batch = bench.trainers[cache, kind], bench.batches[0][cache]
        with torch.no_grad():
            losses[cache, kind] = trainer.compute_loss(bench.model.train(), dict(batch)).item()
    for kind in ("LM", "three"):
        expected = losses["none", kind]
        assert [losses[cache, kind] for cache in ("embeddings", "patches")] == pytest.approx([expected] * 2, rel=1e-9)
    assert losses["none", "three"] > losses["none", "LM"] + 0.1


@pytest.mark.usefixtures("float64")
def test_a_step_moves_what_the_losses_train_and_nothing_else(bench):
    before = {name: value.clone() for name, value in bench.model.named_parameters()}
    bench.step(("embeddings", "LM"), 0)
    moved = {name for name, value in bench.model.named_parameters() if not torch.equal(value, before[name])}
    heads = ("visual_path.relevance_predictor.", "visual_path.alignment_head.")
    assert moved and all(name.startswith("visual_path.") and not name.startswith(heads) for name in moved)
    bench.step(("embeddings", "three"), 0)
    moved = {name for name, value in bench.model.named_parameters() if not torch.equal(value, before[name])}
    assert {name.split(".")[1] for name in moved} >= {"relevance_predictor", "alignment_head"}


def test_the_profile_shows_who_runs(result):
    profile = result[0]["profile"]
    assert len(profile) == 6
    calls = {name: {part: entry["calls"] for part, entry in parts.items()} for name, parts in profile.items()}
    for name, parts in calls.items():
        without_cache = name.startswith("no cache")
        teaches = name == "no cache, three losses"
        assert (parts["teacher"], parts["teacher's text tower"]) == ((1, 1) if teaches else (0, 0)), name
        assert parts["embedding tower"] == (1 if without_cache else 0), name
        assert parts["vision tower"] == (0 if name.startswith("patches") else 1), name
        assert parts["language model"] == parts["visual path"] == parts["backward"] == parts["optimizer"] == 1, name
        shares = profile[name]
        assert 0 < shares["forward"]["share"] + shares["backward"]["share"] + shares["optimizer"]["share"] <= 1.001


def test_the_result_file_says_what_was_measured(result):
    content, table, _ = result
    assert list(content["rows"]) == [
        f"{cache}, {losses}" for cache in ("no cache", "embeddings", "patches") for losses in ("L_lm", "three losses")
    ]
    for row in content["rows"].values():
        assert len(row["seconds"]["values"]) == 2
        assert row["steps_per_second"] == pytest.approx(1 / row["seconds"]["median"])
    mine, other = (content["rows"][f"embeddings, {name}"]["seconds"]["values"] for name in ("three losses", "L_lm"))
    bar = content["bar"]
    assert bar["value"] == pytest.approx(sum(a / b for a, b in zip(mine, other, strict=True)) / 2)
    assert bar["values"] == pytest.approx([a / b for a, b in zip(mine, other, strict=True)])
    assert (bar["limit"], bar["met"], bar["reason"]) == (1.10, None, "size test is for tests")
    # Of 6 images embeddings (float32) and labels (float64), of 4 sentences embeddings; and 4 patches of each image.
    width = SIZES["test"].tower["hidden_size"]
    embeddings = 6 * (width * 4 + 8) + 4 * width * 4
    stored = {name: row["cached_bytes_per_article"] for name, row in content["rows"].items()}
    assert stored["no cache, L_lm"] == 0 and stored["embeddings, three losses"] == embeddings
    assert stored["patches, three losses"] == embeddings + 6 * 4 * width * 4
    settings = content["settings"]
    assert (settings["images"], settings["max_images"], settings["text_tokens"]) == (6, 5, 12)
    assert content["hardware"]["processor"] and content["versions"]["torch"]
    for name in content["rows"]:
        assert table.count(f"| {name} |") == 2
    assert "at most 1.10: not decided, size test is for tests." in table
    share = content["profile"]["no cache, three losses"]["teacher"]["share"]
    assert f"| {share:.1%} |" in render_summary(content)


def test_the_bar_by_hand():
    rows = {"embeddings, three losses": {"to_lm_alone": 1.05, "ratios_to_lm_alone": [1.0, 1.05, 1.2, 1.05, 1.1]}}
    assert evaluate_bar(rows, {"size": "tiny", "turns": 5}).met is True
    few = evaluate_bar(rows, {"size": "tiny", "turns": 4})
    assert (few.met, few.reason) == (None, "measured with turns 4 (not at least 5)")
    rows["embeddings, three losses"]["to_lm_alone"] = 1.11
    missed = evaluate_bar(rows, {"size": "7b", "turns": 6})
    assert missed.met is False
    assert describe_bar(missed._asdict()).endswith(
        "cache of embeddings: 1.110 (1.000 to 1.200), at most 1.10: not met."
    )


def test_what_was_measured_is_written_before_the_profile(result):
    content, _, before_profile = result
    first, table = before_profile[0]
    assert first == {**content, "profile": {}}
    assert table.count("| embeddings, three losses |") == 1 and "at most 1.10" in table


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--turns", "0"], "--turns must be at least 1"),
        (["--device", "cuda:1"], "choose cpu or cuda; CUDA_VISIBLE_DEVICES chooses"),
        (["--text-tokens", "8", "--summary-tokens", "8"], "must leave --text-tokens room"),
    ],
)
def test_options_that_cannot_be_measured_are_refused(options, message, capsys, tmp_path):
    with pytest.raises(SystemExit):
        parse_options(["--size", "test", "--output", str(tmp_path / "x.json"), *options])
    assert message in capsys.readouterr().err
