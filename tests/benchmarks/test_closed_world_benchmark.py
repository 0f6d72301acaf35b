"""The closed world's benchmark at two steps: its result file, that it resumes, and its statistics on hand-made scores."""

import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.forked_process import run as run_forked

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "closed_world.py"
OPTIONS = (
    "--seeds 1 --difficulties paired --hard-variants sampler mm-dvp --steps 2 --backbone-steps 2 --hard-articles 40 "
    "--eval-articles 4 --predictor-articles 10 --predictor-steps 2"
)


@pytest.fixture(scope="module")
def module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("closed_world_benchmark", SCRIPT)
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = loaded
    spec.loader.exec_module(loaded)
    return loaded


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict, str]:
    folder = tmp_path_factory.mktemp("benchmark")
    command = [str(SCRIPT), "--output", str(folder / "runs"), "--result", str(folder / "result.json")]
    done = run_forked([*command, *OPTIONS.split()], ROOT, os.environ)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder, json.loads((folder / "result.json").read_text()), done.stdout


def test_the_result_file_holds_runs_spread_and_differences(run):
    _, content, printed = run
    assert set(content) == {
        "results",
        "missing",
        "notes",
        "settings",
        "seconds",
        "hardware",
        "commit",
        "versions",
    }
    assert content["missing"] == []
    assert content["settings"]["steps"] == 2
    result = content["results"]["paired"]
    assert result["chance"] == {"trend": 0.25}
    assert {(row["variant"], row["seed"]) for row in result["runs"]} == {
        ("sampler", 1),
        ("mm-dvp", 1),
    }
    for variant, scores in result["variants"].items():
        (own,) = [row["scores"] for row in result["runs"] if row["variant"] == variant]
        assert {"visual_facts", "visual_facts_trend", "text_facts", "rougeL"} <= set(scores)
        assert {name: spread["values"] for name, spread in scores.items()} == {name: [own[name]] for name in own}
        assert f"{variant} " in printed
    assert [(row["a"], row["b"]) for row in result["differences"]] == [("mm-dvp", "sampler")]
    assert result["differences"][0]["over_articles"]["articles"] == 4
    predictors = {"vrp_joint", "vrp_none", "vrp_article", "vrp_article_set"}
    selections = predictors | {"teacher", "relevance", "random", "dpp_map", "mmr"}
    assert set(result["selections"]) == selections
    assert {row["score"] for row in result["selection_differences"]} == {"coverage"}
    # The sampler was trained without L_distill: its predictor selects by chance, which is no score of the variant.
    scores = {row["variant"]: set(row["scores"]) for row in result["runs"]}
    assert "image_precision" in scores["mm-dvp"] and "image_precision" not in scores["sampler"]


def test_a_second_run_trains_only_what_is_missing(run, module, monkeypatch, capsys):
    folder, content, _ = run
    argv = ["--output", str(folder / "runs"), "--result", str(folder / "again.json"), *OPTIONS.split()]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    lost = folder / "runs" / "paired-1" / "selections.json"
    lost.unlink()
    kept = {path: path.stat().st_mtime_ns for path in folder.glob("runs/*/variants/*/result.json")}
    assert len(kept) == 2
    module.main(argv)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert json.loads((folder / "again.json").read_text())["results"] == content["results"]
    with pytest.raises(SystemExit, match="other settings"):
        module.main([*argv, "--steps", "3"])


def test_what_is_not_finished_is_named_and_the_rest_collected(run, module, monkeypatch):
    folder, _, _ = run
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    argv = [
        "--output",
        str(folder / "runs"),
        "--result",
        str(folder / "part.json"),
        *OPTIONS.split(),
        "--seeds",
        "1",
        "3",
    ]
    options = module.parse_options(argv)
    content = module.collect(module.make_worlds(options), options, 0.0)
    parts = ("articles", "tokenizer", "text", "siglip", "mm-dvp", "sampler", "selection")
    assert sorted(content["missing"]) == sorted(f"paired-3/{part}" for part in parts)
    assert {row["seed"] for row in content["results"]["paired"]["runs"]} == {1}
    module.main([*argv, "--collect"])
    collected = json.loads((folder / "part.json").read_text())
    assert (collected["missing"], collected["results"]) == (content["missing"], content["results"])
    assert not (folder / "runs" / "paired-3").exists()
    assert content["results"]["paired"]["variants"]["sampler"]["text_facts"]["sd"] is None


def test_the_default_grid_is_the_one_that_is_described(module):
    options = module.parse_options(["--output", "runs", "--result", "result.json"])
    worlds = module.make_worlds(options)
    assert [(world.difficulty, world.experiment.seed) for world in worlds[:6]] == [
        ("standard", 1),
        ("far", 1),
        ("paired", 1),
        ("thin", 1),
        ("counts", 1),
        ("standard", 2),
    ]
    assert len(worlds) == 15
    assert set(worlds[0].variants) == set(module.PAPER_VARIANTS)
    assert worlds[1].variants == ("mm-dvp", "dvp", "sampler")
    names = [job.name for world in worlds for job in module.jobs_of(world)]
    assert len(names) == len(set(names)) == 15 * 5 + 3 * 9 + 12 * 3


def test_differences_pair_seeds_and_articles(module):
    articles = {"a": {1: [1.0, 1.0], 2: [0.0, 1.0]}, "b": {1: [0.0, 1.0], 2: [0.0, 0.0], 3: [1.0, 1.0]}}
    (row,) = module.differences([("a", "b"), ("a", "c")], "visual_facts", articles)
    assert (row["a"], row["b"], row["seeds"]) == ("a", "b", [1, 2])
    # Seed by seed: 1 - 1/2 and 1/2 - 0.
    assert row["over_seeds"] == {"mean": 0.5, "sd": 0.0, "min": 0.5, "max": 0.5, "values": [0.5, 0.5]}
    assert (row["over_articles"]["mean"], row["over_articles"]["articles"]) == (0.5, 4)


def test_equal_time_gives_a_slow_variant_fewer_steps(module, tmp_path):
    runs = [
        {"variant": variant, "steps": 300, "seconds": seconds}
        for variant, seconds in (("sampler", 90), ("sampler", 100), ("sampler", 900), ("dvp", 150), ("kmeans", 80))
    ]
    variants = dict.fromkeys(("sampler", "dvp", "kmeans"))
    content = {"results": {"far": {"runs": runs, "variants": variants}}, "settings": {"steps": 300}}
    file = tmp_path / "steps.json"
    file.write_text(json.dumps(content))
    argv = ["--output", "runs", "--result", "time.json", "--difficulties", "far", "--time-of", str(file)]
    options = module.parse_options([*argv, "--seeds", "2"])
    # The sampler's median, 100 s: at half a second a step 200, at 80/300 s a step 375.
    assert options.variant_steps == {"far": {"sampler": 300, "dvp": 200, "kmeans": 375}}
    (world,) = module.make_worlds(options)
    assert [module.arguments_of(name, world.experiment)[2].max_steps for name in ("dvp", "kmeans", "concat")] == [
        *(200, 375, 300),
    ]
    content["results"]["far"]["variants"].pop("sampler")
    file.write_text(json.dumps(content))
    with pytest.raises(SystemExit, match="no sampler in the world 'far'"):
        module.parse_options(argv)


def test_spread_is_that_of_a_sample(module):
    # Mean 2; squared distances 1 + 0 + 1, over n - 1 = 2.
    assert module.spread([1.0, 2.0, 3.0]) == {
        "mean": 2.0,
        "sd": 1.0,
        "min": 1.0,
        "max": 3.0,
        "values": [1.0, 2.0, 3.0],
    }
    assert module.spread([0.5])["sd"] is None


def test_scores_are_spread_over_the_seeds_of_their_variant(module):
    runs = [
        {"variant": variant, "seed": seed, "scores": {"rougeL": score}}
        for variant, seed, score in (("dvp", 1, 0.5), ("sampler", 1, 0.25), ("dvp", 2, 1.0))
    ]
    spread = module.over_seeds(runs, "variant")
    assert list(spread) == ["dvp", "sampler"]
    assert spread["dvp"]["rougeL"]["values"] == [0.5, 1.0]
    assert spread["dvp"]["rougeL"]["mean"] == 0.75
    # Of two values: their distance over the square root of 2.
    assert spread["dvp"]["rougeL"]["sd"] == pytest.approx(0.5 / 2**0.5)
