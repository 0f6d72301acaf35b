"""The whole demo chain at two steps: its files, their structure, and that running it again changes nothing."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from spectra_sum.cli import main as spectra_sum
from spectra_sum.models.loading import load_model
from tests.forked_process import run
from trainer.closed_world.demo import VARIANTS

ROOT = Path(__file__).parents[3]
OPTIONS = "--steps 2 --backbone-steps 2 --articles 40 --eval-articles 4 --predictor-articles 10 --predictor-steps 2"


def run_demo(output: Path, *more: str) -> subprocess.CompletedProcess:
    command = ["-m", "trainer.closed_world.demo", "--output", str(output), *OPTIONS.split(), *more]
    return run(command, ROOT, os.environ)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    output = tmp_path_factory.mktemp("demo") / "run"
    done = run_demo(output)
    assert done.returncode == 0, done.stderr[-3000:]
    return output, done.stdout


def test_metrics_have_the_documented_structure(demo):
    output, printed = demo
    metrics = json.loads((output / "metrics.json").read_text())
    assert set(metrics) == {"variants", "selection", "chance", "seed", "versions", "commit", "hardware", "settings"}
    assert set(metrics["variants"]) == set(VARIANTS) == {"text-only", "concat", "sampler", "dvp", "mm-dvp"}
    for name, row in metrics["variants"].items():
        assert set(row) == {"rouge1", "rouge2", "rougeL", "text_facts", "visual_facts", "seconds", "parameters"}
        assert set(row["visual_facts"]) == set(metrics["chance"]) == {"trend", "setting"}
        shares = [row["rouge1"], row["rouge2"], row["rougeL"], row["text_facts"], *row["visual_facts"].values()]
        assert all(0 <= share <= 1 for share in shares)
        assert name in printed
    assert metrics["chance"] == {"trend": 0.25, "setting": pytest.approx(1 / 3)}
    sizes = {name: row["parameters"] for name, row in metrics["variants"].items()}
    assert sizes["text-only"] < sizes["concat"] < sizes["sampler"] < sizes["dvp"] == sizes["mm-dvp"]
    predictors = {"vrp_joint", "vrp_none", "vrp_article", "vrp_article_set"}
    selections = predictors | {"teacher", "dpp_map", "mmr", "relevance", "random"}
    assert set(metrics["selection"]) == selections
    for row in metrics["selection"].values():
        assert set(row) == {"image_precision", "coverage"}
        assert 0 <= row["coverage"] <= 1


def test_summaries_selections_and_report_are_written(demo):
    output, _ = demo
    lines = [json.loads(line) for line in (output / "summaries.jsonl").read_text().splitlines()]
    assert len(lines) == 4
    for line in lines:
        assert len(line["selected"]) == 2
        ranked = sorted(range(len(line["probabilities"])), key=lambda i: -line["probabilities"][i])
        assert line["selected"] == ranked[:2]
        assert set(line["variants"]) == set(VARIANTS)
        assert line["summary"] == line["variants"]["mm-dvp"]
    page = (output / "report.html").read_text()
    assert lines[0]["reference"].split(".")[0] in page
    assert "<script" not in page
    assert "Precision of the first k images" in page and "Expected calibration error" in page


def test_the_model_is_mm_dvp_and_summarizes_the_example(demo, tmp_path, capsys):
    output, _ = demo
    config = load_model(str(output / "model")).model.config
    assert (config.fusion, config.vrp_context, config.max_selected_images) == ("dvp", "article_set", 2)
    assert not list((output / "model").glob("*.bin"))
    document = output / "example" / "article.md"
    arguments = ["summarize", str(document), "--model", str(output / "model"), "--json", str(tmp_path / "out.jsonl")]
    assert spectra_sum([*arguments, "--output", str(tmp_path / "report.html")]) == 0
    line = json.loads((tmp_path / "out.jsonl").read_text())
    assert len(line["images"]) == document.read_text().count("![")
    words = len(AutoTokenizer.from_pretrained(output / "model"))
    [remark] = [problem["detail"] for problem in line["summary_problems"] if problem["kind"] == "closed_world"]
    assert f"it knows {words} words" in remark
    assert remark in capsys.readouterr().out and remark in (tmp_path / "report.html").read_text()


def test_the_model_carries_what_a_card_is_made_of(demo):
    output, _ = demo
    model, result = output / "model", json.loads((output / "variants" / "mm-dvp" / "result.json").read_text())
    record = json.loads((model / "run.json").read_text())
    assert record["data"]["articles"] == {"train": 40, "validation": 4, "test": 4}
    assert (record["data"]["name"], record["data"]["difficulty"]) == ("closed_world", "standard")
    assert {role: source["source"] for role, source in record["backbones"].items()} == {
        "vision": "closed_world",
        "text": "closed_world",
    }
    state = json.loads((model / "trainer_state.json").read_text())
    assert (state["global_step"], state["log_history"]) == (2, result["log_history"])
    metrics = json.loads((model / "metrics.json").read_text())
    assert metrics == {f"test_{name}": value for name, value in result["scores"].items()}
    assert {"test_rouge1", "test_image_precision"} <= set(metrics)


def test_running_again_trains_nothing_and_other_settings_are_refused(demo):
    output, _ = demo
    results = {path: path.stat().st_mtime_ns for path in output.glob("variants/*/result.json")}
    assert len(results) == 5
    assert run_demo(output).returncode == 0
    assert {path: path.stat().st_mtime_ns for path in results} == results
    refused = run_demo(output, "--seed", "1")
    assert refused.returncode != 0 and "other settings" in refused.stderr
