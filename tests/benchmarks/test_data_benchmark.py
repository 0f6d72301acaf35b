"""The data benchmark on a few articles: its copies, its result, and the memory that it reports."""

import importlib.util
import json
import os
import resource
import subprocess
import sys
import types
from pathlib import Path

import pytest

from spectra_sum.msmo import MSMO

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "data.py"


@pytest.fixture(scope="module")
def module():
    spec = importlib.util.spec_from_file_location("data_benchmark", SCRIPT)
    loaded = importlib.util.module_from_spec(spec)
    before = sys.path[0]
    spec.loader.exec_module(loaded)
    sys.path[0] = before
    return loaded


@pytest.fixture
def few_distinct_files(module, monkeypatch):
    monkeypatch.setattr(module, "LEAST_DISTINCT_FILES", 4)


def contents(root):
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_a_copy_is_sound_and_equal_for_equal_seeds(module, few_distinct_files, tmp_path):
    made = module.make_copy(tmp_path / "a", 12, seed=3)
    root = tmp_path / "a" / "test_data"
    images, captions = list((root / "img").iterdir()), list((root / "caption").iterdir())
    assert made["articles"] == len(list((root / "article").iterdir())) == 12
    assert made["images"] == len(images) == len(captions) > 12
    assert len({path.stat().st_ino for path in images}) == 4
    gold = (root / "image_annotation.txt").read_text().splitlines()
    assert made["gold"] == len([line for line in gold if line != "None"]) > 0
    builder = MSMO(tmp_path / "a", cache_dir=tmp_path / "cache", verify="full")
    builder.download_and_prepare()
    report = builder.integrity_report().splits["test"]
    assert report.counts == {}
    assert report.totals == {
        "articles": 12, "records": 12, "images": len(images), "captions": len(images), "alt_texts": 0,
        "articles_with_gold": made["gold"],
    }  # fmt: skip
    words = [len(record["article"].split()) for record in builder.as_dataset("test").remove_columns("images")]
    assert all(325 <= count <= 975 for count in words) and len(set(words)) > 6

    assert module.make_copy(tmp_path / "b", 12, seed=3) == made
    whole = contents(tmp_path / "a")
    assert contents(tmp_path / "b") == whole
    # What an interrupted call left: a torn text, and neither the last links nor the annotation.
    next((tmp_path / "b/test_data/article").iterdir()).write_text("@title")
    for path in sorted((tmp_path / "b/test_data/img").iterdir())[-5:]:
        path.unlink()
    (tmp_path / "b/test_data/image_annotation.txt").unlink()
    assert module.make_copy(tmp_path / "b", 12, seed=3) == made
    assert contents(tmp_path / "b") == whole
    module.make_copy(tmp_path / "c", 12, seed=4)
    assert not set(contents(tmp_path / "c" / "test_data" / "article")) & set(contents(root / "article"))


def test_the_result_of_two_sizes(module, few_distinct_files, tmp_path, monkeypatch, capsys):
    arguments = "--articles 2 12 --num-proc 2".split()
    paths = {name: tmp_path / name for name in ("copies", "result.json", "table.md")}
    arguments += ["--folder", paths["copies"], "--output", paths["result.json"], "--markdown", paths["table.md"]]
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, arguments)])
    module.main()
    result = json.loads(paths["result.json"].read_text())
    assert [row["articles"] for row in result["sizes"]] == [2, 12]
    for row in result["sizes"]:
        builder, plain = row["builder"], row["plain"]
        folder = paths["copies"] / f"msmo-{row['articles']}-articles-seed-0"
        assert row["images"] == len(list((folder / "test_data/img").iterdir()))
        assert builder["found"] == plain["found"] == json.loads(folder.with_suffix(".json").read_text())
        assert list(builder["seconds"]) == ["fingerprint", "index", "prepare", "open"]
        assert all(0 < seconds < 600 for seconds in builder["seconds"].values())
        speeds = [row["articles"] / sum(measured["seconds"].values()) for measured in (builder, plain)]
        assert [builder["articles_per_second"], plain["articles_per_second"]] == speeds
        assert row["speed_ratio"] == speeds[0] / speeds[1]
        # Python with Pillow, and with datasets and pyarrow: tens of megabytes, not kilobytes or gigabytes.
        for measured in (builder, plain):
            assert 10e6 < measured["memory_after_imports"] <= measured["peak_memory"] < 2e9
            assert measured["memory_growth"] == measured["peak_memory"] - measured["memory_after_imports"]
        assert plain["peak_memory"] < builder["peak_memory"]
        assert list(builder["peak_memory_after"].values()) == sorted(builder["peak_memory_after"].values())
        assert builder["peak_memory_after"]["open"] == builder["peak_memory"]
        assert builder["peak_memory_of_a_worker"] > 10e6
    (ratio,) = result["memory_ratios"]
    peaks = [row["builder"]["peak_memory"] for row in result["sizes"]]
    assert ratio["articles"] == [2, 12]
    assert ratio["builder"]["peak_memory"] == peaks[1] / peaks[0]
    workers = [row["builder"]["peak_memory_of_a_worker"] for row in result["sizes"]]
    assert ratio["largest_worker"] == workers[1] / workers[0]
    assert ratio["flat"] == (peaks[1] / peaks[0] <= 1.10 and workers[1] / workers[0] <= 1.10)
    assert result["settings"]["num_proc"] == 2
    assert set(result["versions"]) == {"python", "datasets", "pyarrow", "pillow"}
    # The copies stay, and nothing else.
    kept = {f"msmo-{articles}-articles-seed-0{ending}" for articles in (2, 12) for ending in ("", ".json")}
    assert {path.name for path in paths["copies"].iterdir()} == kept
    table = paths["table.md"].read_text()
    assert table in capsys.readouterr().out
    assert (
        f"| 12 | {result['sizes'][1]['images']} | {result['sizes'][1]['builder']['articles_per_second']:,.0f} |"
        in table
    )
    assert f"Peak memory, 12 articles / 2: builder {peaks[1] / peaks[0]:.3f} " in table


@pytest.mark.parametrize(("growth", "verdict"), [(1.099, "at most 1.10: met"), (1.101, "at most 1.10: NOT met")])
def test_the_bar_is_between_the_large_sizes(module, growth, verdict):
    def row(articles, builder, plain):
        steps = dict.fromkeys(("fingerprint", "index", "prepare", "open"), 1.0)
        common = {"articles_per_second": 1.0, "cpu_seconds": 1.0, "seconds": steps}
        measured = {"builder": builder, "plain": plain}
        rest = {key: common | {"peak_memory": peak, "memory_growth": peak / 2} for key, peak in measured.items()}
        return {"articles": articles, "images": 9 * articles, "speed_ratio": 1.0, **rest}

    rows = [row(1000, 100e6, 10e6), row(10_000, 200e6, 20e6), row(100_000, 200e6 * growth, 90e6)]
    ratios = module.compare_memory(rows, num_proc=1)
    assert [ratio["flat"] for ratio in ratios] == [False, growth < 1.1]
    assert ratios[1]["plain"]["memory_growth"] == 4.5
    facts = {"settings": {"num_proc": 1}, "hardware": {"processor": "p"}, "versions": {"python": "3"}}
    lines = module.render({"sizes": rows, "memory_ratios": ratios, **facts}).splitlines()
    assert [line.partition("; ")[2] for line in lines if line.startswith("Peak memory")] == ["", verdict]


@pytest.mark.parametrize(("main", "worker", "flat"), [(1.0, 1.09, True), (1.0, 1.2, False), (1.2, 1.0, False)])
def test_with_several_processes_the_workers_are_flat_too(module, main, worker, flat):
    def row(articles, main, worker):
        builder = {"peak_memory": 200e6 * main, "memory_growth": 1e6, "peak_memory_of_a_worker": 300e6 * worker}
        return {"articles": articles, "builder": builder, "plain": {"peak_memory": 1e6, "memory_growth": 1e6}}

    (ratio,) = module.compare_memory([row(10_000, 1, 1), row(100_000, main, worker)], num_proc=4)
    assert ratio["flat"] == flat
    assert ratio["largest_worker"] == pytest.approx(worker)


def test_a_measurement_that_finds_something_else_is_no_result(module, few_distinct_files, tmp_path):
    module.totals_file(tmp_path, 2, 0).write_text(
        json.dumps(module.make_copy(module.copy_folder(tmp_path, 2, 0), 2, 0))
    )
    next((tmp_path / "msmo-2-articles-seed-0/test_data/img").iterdir()).unlink()
    with pytest.raises(RuntimeError, match="plain found .* made was"):
        module.measure_size(tmp_path, 2, 0, 1)


@pytest.mark.parametrize(
    ("free", "message"),
    [
        ({"f_bavail": 100}, r"1,000 articles take 0\.0 GB; the disk of .* has 0\.0 GB left: pass --folder"),
        ({"f_favail": 1500}, r"1,000 articles take 2,512 inodes; the disk of .* has 1,500 left: pass --folder"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_made(module, tmp_path, monkeypatch, free, message):
    disk = {"f_bavail": 10**9, "f_frsize": 4096, "f_files": 10**9, "f_favail": 10**9} | free
    monkeypatch.setattr(os, "statvfs", lambda folder: types.SimpleNamespace(**disk))
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), "--articles", "1000", "--folder", str(tmp_path / "copies")])
    with pytest.raises(SystemExit, match=message):
        module.main()
    assert not list((tmp_path / "copies").iterdir())


def test_a_disk_without_hard_links_is_named(module, few_distinct_files, tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(module.DoesNotFit, match=r"img takes no further hard links \(Operation not permitted\)"):
        module.make_copy(tmp_path, 12, 0)


@pytest.mark.parametrize("arguments", ["--articles 0", "--articles 10 10", "--articles 100 10", "--num-proc 0"])
def test_wrong_arguments(module, arguments, capsys):
    with pytest.raises(SystemExit):
        module.parse_options(arguments.split())
    assert "--articles must be rising numbers from 1" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        module.parse_options(["--markdown", "nowhere/table.md"])
    assert "nowhere/table.md: there is no folder nowhere" in capsys.readouterr().err


def test_links_stay_under_the_limit_of_a_file(module):
    assert [module.distinct_files(articles) for articles in (1, 100_000)] == [256, 256]
    # On average half as many links as the limit that it is computed for.
    assert 18 * 10_000_000 / module.distinct_files(10_000_000) <= 30_000


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="this system has no /proc")
def test_the_peak_is_that_of_the_process_alone(module):
    script = "import sys; sys.path.insert(0, sys.argv[1]); from process_memory import resident_memory; "
    script += "block = bytearray(int(sys.argv[2])); del block; print(*reversed(resident_memory()))"

    def measured(held):
        command = [sys.executable, "-c", script, str(SCRIPT.parent), str(held)]
        return [int(word) for word in subprocess.run(command, capture_output=True, check=True).stdout.split()]

    small, large = measured(0), measured(100_000_000)
    assert small[0] < resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    assert 95e6 < large[0] - small[0] < 105e6
    assert large[1] - small[1] < 10e6
