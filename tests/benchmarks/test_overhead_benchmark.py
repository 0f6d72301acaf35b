"""The overhead benchmark at size `test`: nothing is timed, but what is measured, counted and compared."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from benchmarks import overhead
from benchmarks.overhead_models import (
    FIELD_MATRIX,
    GATE_INIT,
    MATRIX,
    SIZES,
    TEXT_ROW,
    build_model,
    count_parameters,
    make_article,
    make_config,
    make_inputs,
    make_rows,
)
from benchmarks.overhead_results import Measurements, add_ratios, evaluate_bars, render_markdown, summarize_row

ROOT = Path(__file__).parents[2]
TEST = SIZES["test"]
CPU = torch.device("cpu")
ROWS = {row.name: row for row in make_rows(TEST)}
VARIANTS = ["OneVision", "Vision Sampler", "DVP", "MM-OV", "MM-Vision Sampler", "MM-DVP"]


def parse(tmp_path, *options):
    return overhead.parse_options(["--size", "test", "--output", str(tmp_path / "result.json"), *options])


def run(tmp_path, *options):
    overhead.main(["--size", "test", "--output", str(tmp_path / "result.json"), "--no-memory", *options])
    return json.loads((tmp_path / "result.json").read_text())


def text_model_parameters(vocabulary, width, feed_forward, layers, heads, key_value_heads, tied=False):
    """Qwen2: biases on queries, keys and values only."""
    key_value = width // heads * key_value_heads
    attention = (width + 1) * (width + 2 * key_value) + width * width
    layer = attention + 3 * width * feed_forward + 2 * width
    return vocabulary * width * (1 if tied else 2) + layers * layer + width


def tower_parameters(width, feed_forward, layers, image_size, patch_size, head):
    """SigLIP: biases and norms with bias everywhere; the pooling head has a query of its own, a norm and an MLP."""
    attention, mlp, norm = 4 * (width + 1) * width, 2 * width * feed_forward + feed_forward + width, 2 * width
    embeddings = 3 * patch_size**2 * width + width + (image_size // patch_size) ** 2 * width
    pooling = width + attention + norm + mlp if head else 0
    return embeddings + layers * (attention + mlp + 2 * norm) + norm + pooling


def new_parameters(fusion, tower, width, patches, latents, sampler_depth, blocks, gates, images=5):
    """Of the modules that the method's equations describe, matrix by matrix; biases in feed-forwards and projections."""
    attention = 4 * width * width
    mlp = 8 * width * width + 5 * width
    counts = {
        # Two layers of 256 hidden units on the image's embedding; a projection and a temperature.
        "relevance_predictor": (tower + 1) * 256 + 257,
        "alignment_head": (width + 1) * tower + 1,
    }
    if fusion == "concat":
        return counts | {"projector": (tower + 1) * width + (width + 1) * width + width}
    sampler_block = 2 * attention + mlp + 4 * width
    counts["sampler"] = (
        (tower + 1) * width * 2 + patches * width + latents * width + sampler_depth * sampler_block + width
    )
    # Two norms and one α per gate.
    counts["cross_attentions"] = gates * (attention + 2 * width + 1)
    if fusion == "dvp":
        counts["deep_visual_processor"] = images * width + blocks * (attention + mlp + 2 * width)
    return counts


def test_the_rows_are_those_of_the_matrix_file_and_the_text_model():
    content = yaml.safe_load(MATRIX.read_text())
    rows = make_rows(SIZES["7b"], quantized=True)
    assert [row.name for row in rows] == [*VARIANTS, "Vision Sampler, NF4", "DVP, NF4", TEXT_ROW]
    by_name = {row.name: row for row in rows}
    for name, fields in content["variants"].items():
        assert by_name[name].fields == content["common"] | fields | {"gate_init": GATE_INIT}
    assert by_name["DVP, NF4"].fields == by_name["DVP"].fields
    config = make_config(by_name["DVP"], SIZES["7b"])
    assert (config.dvp_num_layers, config.gate_layers, config.num_latents) == (24, [8, 16, 24], 64)
    assert config.num_patches == 729
    assert make_config(by_name["OneVision"], SIZES["7b"]).num_image_tokens == 730


@pytest.mark.parametrize("name", VARIANTS[:3])
def test_parameters_of_the_test_size_are_those_counted_by_hand(name):
    model = build_model(ROWS[name], TEST, CPU, torch.float32, "sdpa")
    fusion = ROWS[name].fusion
    new = new_parameters(fusion, 64, 64, patches=4, latents=3, sampler_depth=1, blocks=3, gates=3)
    # LLaVA-OneVision itself has one tower.
    baseline = name == "OneVision"
    backbones = {
        "vision_tower": tower_parameters(64, 24, 1, 16, 8, head=baseline),
        "language_model": text_model_parameters(96, 64, 40, 3, 2, 1),
    }
    if not baseline:
        backbones["embedding_tower"] = tower_parameters(64, 24, 2, 16, 8, head=True)
    expected = backbones | new | {"new": sum(new.values()), "total": sum(new.values()) + sum(backbones.values())}
    assert count_parameters(model) == expected
    one_tower = build_model(ROWS[name], TEST, CPU, torch.float32, "sdpa", one_tower=True)
    assert one_tower.embedding_tower is None
    assert count_parameters(one_tower)["vision_tower"] == tower_parameters(64, 24, 1, 16, 8, head=True)


@pytest.mark.parametrize(
    # Published: Qwen2-7B has 7,615,616,512 parameters with 152064 tokens and Qwen2-0.5B 494,032,768 with 151936;
    # LLaVA-OneVision adds 64 tokens to both.
    ("size", "text", "width", "layers"),
    [("7b", 7_615_616_512 + 2 * 64 * 3584, 3584, 28), ("0.5b", 494_032_768 + 64 * 896, 896, 24)],
)
def test_parameters_of_the_full_sizes(size, text, width, layers):
    row = next(row for row in make_rows(SIZES[size]) if row.name == "DVP")
    counts = count_parameters(build_model(row, SIZES[size], torch.device("meta"), torch.bfloat16, "sdpa"))
    new = new_parameters("dvp", 1152, width, patches=729, latents=64, sampler_depth=2, blocks=24, gates=3)
    assert counts["language_model"] == text
    assert counts["vision_tower"] == tower_parameters(1152, 4304, 26, 384, 14, head=False)
    # The vision part of google/siglip-so400m-patch14-384.
    assert counts["embedding_tower"] == 428_225_600
    assert {name: counts[name] for name in new} == new
    assert layers == SIZES[size].text["num_hidden_layers"]


def test_all_rows_read_the_same_article():
    article = make_article(TEST, 3)
    assert article["text"].shape == (1, 12) and article["pixel_values"].shape == (1, 2, 3, 16, 16)
    inputs = {}
    for name, row in ROWS.items():
        model = build_model(row, TEST, torch.device("meta"), torch.float32, "sdpa")
        inputs[name] = make_inputs(row, model, make_article(TEST, 3), CPU, torch.float32)
    for name in VARIANTS:
        assert torch.equal(inputs[name]["pixel_values"], article["pixel_values"])
        assert inputs[name]["image_mask"].all() and inputs[name]["image_mask"].shape == (1, 2)
        ids = inputs[name]["input_ids"]
        if ROWS[name].fusion == "concat":
            # Two images of four patches and a newline each.
            assert ids[0, :10].tolist() == [95] * 10
            ids = ids[:, 10:]
        assert torch.equal(ids, article["text"])
        assert inputs[name]["attention_mask"].all()
    assert torch.equal(inputs[TEXT_ROW]["input_ids"], article["text"])
    assert set(inputs[TEXT_ROW]) == {"input_ids", "attention_mask"}
    assert not torch.equal(make_article(TEST, 4)["text"], article["text"])
    assert not (article["text"] == 95).any()


def test_all_rows_have_the_same_backbones_and_open_gates():
    models = {name: build_model(ROWS[name], TEST, CPU, torch.float32, "sdpa") for name in [*VARIANTS[:3], TEXT_ROW]}
    language = models["DVP"].language_model.state_dict()
    for model in (models["OneVision"].language_model, models["Vision Sampler"].language_model):
        assert all(torch.equal(tensor, language[name]) for name, tensor in model.state_dict().items())
    assert models["DVP"].gate_openings() == pytest.approx(dict.fromkeys((1, 2, 3), 0.46211716))
    # As a model that is loaded in that precision: norms, gates, predictor and τ stay in float32.
    half = build_model(ROWS["DVP"], TEST, CPU, torch.bfloat16, "sdpa")
    exact = re.compile(r"visual_path\..*(norm\.weight|\.alpha|log_temperature|relevance_predictor\..*)")
    for name, parameter in half.named_parameters():
        assert parameter.dtype == (torch.float32 if exact.fullmatch(name) else torch.bfloat16), name
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.parametrize("name", ["OneVision", "DVP", TEXT_ROW])
@pytest.mark.parametrize("options", [{}, {"cache_implementation": "static", "disable_compile": True}])
def test_times_are_read_where_prefill_text_and_tokens_begin_and_end(name, options, monkeypatch):
    """The clock shows the squares 0, 1, 4, …; hooks tell what ran between two of its marks."""
    events = []

    def mark(clock):
        clock.marks.append(len(clock.marks) ** 2)
        events.append("mark")

    monkeypatch.setattr(overhead.Clock, "mark", mark)
    model = build_model(ROWS[name], TEST, CPU, torch.float32, "sdpa")
    inputs = make_inputs(ROWS[name], model, make_article(TEST, 0), CPU, torch.float32)
    if name != TEXT_ROW:
        model.vision_tower.register_forward_hook(lambda *_: events.append("tower"))
    model.get_decoder().layers[0].register_forward_hook(lambda _, args, out: events.append(args[0].shape[1]))
    sample = overhead.measure_sample(model, inputs, 4, options)
    prompt = {"OneVision": 22}.get(name, 12)
    tower = [] if name == TEXT_ROW else ["tower"]
    assert events == ["mark", *tower, "mark", prompt, "mark", 1, "mark", 1, "mark", 1, "mark", "mark"]
    assert sample == overhead.Sample(visual=1, text=3, prefill=4, decode=(25 - 4) / 3, total=36)
    assert not model.get_decoder()._forward_pre_hooks


def test_an_early_end_is_an_error(monkeypatch):
    model = build_model(ROWS[TEXT_ROW], TEST, CPU, torch.float32, "sdpa")
    inputs = make_inputs(ROWS[TEXT_ROW], model, make_article(TEST, 0), CPU, torch.float32)
    generate = model.generate
    monkeypatch.setattr(model, "generate", lambda **options: generate(**options)[:, :-1])
    with pytest.raises(RuntimeError, match="generated 3 tokens with 7 marks, not 4 and 7"):
        overhead.measure_sample(model, inputs, 4, {})


def test_the_clock_leaves_one_compiled_graph(tmp_path):
    torch._dynamo.reset()
    generation = overhead.generation_options(parse(tmp_path, "--compile"))
    graphs = []

    def backend(graph, example_inputs):
        graphs.append(graph)
        return graph.forward

    assert generation["cache_implementation"] == "static" and generation["compile_config"].fullgraph
    generation["compile_config"].backend = backend
    generation["compile_config"].mode = None
    model = build_model(ROWS["DVP"], TEST, CPU, torch.float32, "sdpa")
    for sample in range(2):
        inputs = make_inputs(ROWS["DVP"], model, make_article(TEST, sample), CPU, torch.float32)
        overhead.measure_sample(model, inputs, 4, generation)
    torch._dynamo.reset()
    assert len(graphs) == 1


def test_the_result_file_and_its_table(tmp_path, capsys):
    content = run(tmp_path, "--samples", "2", "--warmups", "1", "--static-cache")
    assert list(content) == ["rows", "bars", "notes", "settings", "hardware", "versions", "commit"]
    assert list(content["rows"]) == [*VARIANTS, TEXT_ROW]
    for name, row in content["rows"].items():
        assert row["prompt_tokens"] == (22 if ROWS[name].fusion == "concat" else 12)
        for values in row["seconds"].values():
            assert len(values["values"]) == 2 and values["median"] <= values["p95"]
        times = {what: values["values"] for what, values in row["seconds"].items()}
        assert times["prefill"] == pytest.approx([a + b for a, b in zip(times["visual"], times["text"], strict=True)])
        rest = zip(times["total"], times["prefill"], times["decode"], strict=True)
        assert all(total >= prefill + 3 * decode for total, prefill, decode in rest)
        assert row["memory"] is None
    settings = content["settings"]
    assert (settings["K"], settings["G"], settings["M"], settings["patches_per_image"]) == (3, [1, 2, 3], 3, 4)
    assert settings["feed_forward"] == {"sampler": 4, "dvp": 4} and settings["towers"]["layers"] == [1, 2]
    assert (settings["samples"], settings["warmups"], settings["static_cache"], settings["compile"]) == (
        2,
        1,
        True,
        False,
    )
    assert settings["order"] == "in turns" and settings["threads"] == torch.get_num_threads()
    assert content["hardware"]["processor"] and content["versions"]["torch"] == torch.__version__
    table = (tmp_path / "result.md").read_text()
    assert capsys.readouterr().out.strip() == table.strip()
    assert content["hardware"]["processor"] in table and "static cache" in table
    for name in (*VARIANTS, TEXT_ROW):
        assert f"| {name} | {content['rows'][name]['prompt_tokens']} |" in table
    assert all(bar["met"] is None and bar["reason"] for bar in content["bars"])
    assert not list(tmp_path.glob("*.jsonl"))


def test_an_interrupted_run_goes_on(tmp_path, monkeypatch):
    measured, options = [], ("--samples", "3", "--warmups", "1", "--variants", "DVP")
    original = overhead.measure

    def interrupted(row, model, sample, parsed):
        measured.append((row.name, sample))
        if len(measured) == 6:
            raise KeyboardInterrupt
        return original(row, model, sample, parsed)

    monkeypatch.setattr(overhead, "measure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, *options)
    kept = tmp_path / "result.measured.jsonl"
    with kept.open("a") as file:
        file.write('{"row": "DVP", "ki')
    with pytest.raises(SystemExit, match="other settings, hardware or versions.*--output"):
        run(tmp_path, *options, "--attention", "eager")
    content = run(tmp_path, *options)
    warmup = [("DVP", -1), (TEXT_ROW, -1)]
    assert measured[:2] == measured[6:8] == warmup
    # The sixth call was interrupted and is done again.
    assert measured[8] == measured[5]
    for sample, calls in enumerate((measured[2:4], measured[4:6], measured[9:])):
        assert sorted(calls) == [("DVP", sample), (TEXT_ROW, sample)]
    assert all(len(row["seconds"]["total"]["values"]) == 3 for row in content["rows"].values())
    assert not kept.exists()


def hand_made(tmp_path, memory_kind, **factors):
    """Measurements of rows whose times are those of OneVision times a factor."""
    measurements = Measurements(tmp_path / "hand.jsonl", {"settings": 1})
    for row, factor in factors.items():
        measurements.add(row, "parameters", total=200, new=20)
        for sample, seconds in enumerate((5.0, 1.0, 4.0, 2.0, 3.0)):
            times = {name: seconds * factor for name in ("visual", "text", "prefill", "decode", "total")}
            gpu = {"gpu_memory": int(1000 * factor) - sample} if memory_kind == "gpu" else {}
            measurements.add(row, "times", sample=sample, prompt_tokens=7, **times, **gpu)
        if memory_kind == "process":
            measurements.add(row, "memory", peak=int(1000 * factor) + 300, before=300)
    rows = {row: summarize_row(measurements, row, new_tokens=6) for row in factors}
    add_ratios(rows)
    return rows


def bar_settings(**changed):
    settings = {"images": 5, "patches_per_image": 729, "text_tokens": 2048, "new_tokens": 256, "K": 24, "M": 64}
    settings |= {"G": [8, 16, 24], "feed_forward": {"sampler": 4, "dvp": 4}}
    settings |= {"one_tower": False, "samples": 5}
    return settings | {"device": "cuda", "size": "7b", "dtype": "bfloat16"} | changed


@pytest.mark.parametrize("memory_kind", ["gpu", "process"])
def test_summaries_and_ratios_by_hand(tmp_path, memory_kind):
    rows = hand_made(tmp_path, memory_kind, **{"OneVision": 1.0, "DVP": 0.5, TEXT_ROW: 0.4})
    dvp = rows["DVP"]
    # Of 0.5, 1.0, 1.5, 2.0, 2.5: the percentile lies 0.8 of the way from the fourth to the fifth.
    assert dvp["seconds"]["total"]["median"] == 1.5 and dvp["seconds"]["total"]["p95"] == pytest.approx(2.4)
    assert dvp["tokens_per_second"] == {"decode": 1 / 1.5, "whole": 4.0}
    assert dvp["memory"]["peak"] == (500 if memory_kind == "gpu" else 800)
    assert dvp["to_onevision"] == pytest.approx(
        dict.fromkeys(("visual", "text", "prefill", "decode", "total", "memory"), 0.5)
    )
    assert dvp["to_text"]["decode"] == pytest.approx(1.25)
    assert dvp["parameters"] == {"total": 200, "new": 20} and dvp["prompt_tokens"] == 7


def test_bars(tmp_path):
    rows = hand_made(tmp_path, "gpu", **{"OneVision": 1.0, "DVP": 0.6, "DVP, NF4": 1.2, TEXT_ROW: 0.5})
    prefill, decode, total, memory, quantized = evaluate_bars(rows, bar_settings())
    assert (prefill.value, prefill.limit, prefill.met) == (pytest.approx(0.6), 0.60, True)
    assert (decode.value, decode.limit, decode.met) == (pytest.approx(1.2), 1.15, False)
    assert (total.value, total.limit, total.met) == (pytest.approx(0.6), 1.05, True)
    assert (memory.value, memory.limit, memory.met) == (pytest.approx(0.6), 1.43, True)
    assert (quantized.value, quantized.limit, quantized.met) == (pytest.approx(1.2), 1.15, False)
    assert all(bar.reason is None for bar in (prefill, decode, total, memory, quantized))


def test_bars_that_a_run_cannot_decide(tmp_path):
    rows = hand_made(tmp_path, "gpu", **{"OneVision": 1.0, "DVP": 0.5})
    on_cpu = evaluate_bars(rows, bar_settings(device="cpu"))
    assert [bar.met for bar in on_cpu] == [True, None, True, None, None]
    assert [bar.value for bar in on_cpu] == [0.5, None, 0.5, None, None]
    assert [bar.reason for bar in on_cpu][1] == f"DVP or {TEXT_ROW} was not measured"
    assert {bar.reason for bar in on_cpu[3:]} == {"a bar of GPU memory"}
    small = evaluate_bars(rows, bar_settings(size="0.5b"))
    assert (small[3].value, small[3].met, small[3].reason) == (0.5, None, "decided at size 7b in bfloat16")
    short = evaluate_bars(rows, bar_settings(new_tokens=8, G=[8]))
    assert [bar.met for bar in short] == [None] * 5
    assert short[0].reason == "measured with new_tokens 8 (not 256), G [8] (not [8, 16, 24])"
    easy = evaluate_bars(rows, bar_settings(one_tower=True, samples=4))
    assert [bar.met for bar in easy] == [None] * 5
    assert easy[0].reason == "measured with one tower (not two), samples 4 (not at least 5)"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--images", "6"], "at most 5 .max_images"),
        (["--new-tokens", "1"], "--new-tokens is 1; it must be at least 2"),
        (["--samples", "0"], "--samples is 0; it must be at least 1"),
        (["--threads", "0"], "--threads is 0"),
        (["--variants", "DPV"], "no rows .'DPV'.; the rows are .'OneVision'"),
        (["--variants", "DVP, NF4"], "no rows .'DVP, NF4'."),
        (["--device", "tpux"], "--device tpux is no device"),
        (["--device", "meta"], "--device meta is not supported"),
        (["--output", "x.md"], "name the same file"),
    ],
)
def test_bad_options_end_before_any_work(tmp_path, capsys, options, message):
    with pytest.raises(SystemExit):
        parse(tmp_path, *options)
    output = " ".join(capsys.readouterr().err.split())
    assert re.search(message, output)


def test_options_by_default(tmp_path):
    options = overhead.parse_options(["--size", "tiny", "--output", str(tmp_path / "a.json")])
    assert (options.samples, options.warmups, options.dtype, options.static_cache) == (100, 10, "float32", False)
    size = options.dimensions
    assert (size.images, size.text_tokens, size.new_tokens) == (5, 2048, 256)
    settings = overhead.settings_of(options)
    assert {name: settings[name] for name in ("K", "G", "M", "patches_per_image")} == {
        "K": 24,
        "G": [8, 16, 24],
        "M": 64,
        "patches_per_image": 729,
    }
    assert settings["text"]["num_hidden_layers"] == 28 and settings["order"] == "in turns"
    compiled = parse(tmp_path, "--compile", "--variants", "DVP")
    assert compiled.static_cache and [row.name for row in compiled.rows] == ["DVP", TEXT_ROW]
    assert overhead.settings_of(compiled)["order"] == "one after the other"


def test_the_table_s_folder_is_looked_for_first(tmp_path, capsys):
    with pytest.raises(SystemExit):
        parse(tmp_path, "--markdown", str(tmp_path / "missing" / "table.md"))
    assert "table.md: there is no such folder" in capsys.readouterr().err
    assert parse(tmp_path, "--markdown", str(tmp_path / "table.md")).markdown.name == "table.md"


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_a_missing_gpu_is_named(tmp_path, capsys):
    with pytest.raises(SystemExit):
        parse(tmp_path, "--device", "cuda")
    assert "torch finds no GPU here" in capsys.readouterr().err


def test_new_modules_in_4_bit_are_those_of_sampler_and_processor(tmp_path):
    bitsandbytes = pytest.importorskip("bitsandbytes")
    options = parse(tmp_path, "--new-modules-4bit", "--variants", "DVP, NF4")
    quantized, text = options.rows
    assert (quantized.name, quantized.quantized, text.name) == ("DVP, NF4", True, TEXT_ROW)
    model, parameters = overhead.prepare(quantized, options)
    plain, expected = overhead.prepare(ROWS["DVP"], options)
    assert parameters == expected
    linear = {name for name, module in plain.named_modules() if isinstance(module, nn.Linear)}
    in_4_bit = {name for name, module in model.named_modules() if isinstance(module, bitsandbytes.nn.Linear4bit)}
    parts = ("visual_path.sampler.", "visual_path.deep_visual_processor.")
    assert in_4_bit == {name for name in linear if name.startswith(parts)} and len(in_4_bit) == 30
    assert {model.get_submodule(name).weight.quant_type for name in in_4_bit} == {"nf4"}
    inputs = make_inputs(quantized, model, make_article(TEST, 0), CPU, torch.float32)
    assert overhead.measure_sample(model, inputs, 2, {}).total > 0


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="the system does not tell a process its memory")
def test_memory_of_a_process_holds_the_model():
    command = [sys.executable, str(ROOT / "benchmarks" / "overhead.py"), "--size", "tiny", "--output", "unused.json"]
    command += ["--images", "1", "--text-tokens", "8", "--new-tokens", "2", "--one-tower", "--peak-memory-of", "DVP"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    memory = json.loads(done.stdout)
    row = next(row for row in make_rows(SIZES["tiny"]) if row.name == "DVP")
    model = build_model(row, SIZES["tiny"], torch.device("meta"), torch.float32, "sdpa", one_tower=True)
    weights = 4 * count_parameters(model)["total"]
    assert weights <= memory["peak"] - memory["before"] <= 3 * weights


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu(tmp_path):
    content = run(tmp_path, "--samples", "2", "--warmups", "1", "--device", "cuda")
    for row in content["rows"].values():
        assert row["memory"]["peak"] > 2 * row["parameters"]["total"]
        assert row["seconds"]["total"]["median"] > row["seconds"]["prefill"]["median"] > 0
    assert content["settings"]["order"] == "one after the other" and content["settings"]["dtype"] == "bfloat16"
    assert render_markdown(content) == (tmp_path / "result.md").read_text()


def test_rows_of_another_matrix_file(tmp_path, capsys):
    options = parse(tmp_path, "--matrix", str(FIELD_MATRIX))
    rows = {row.name: row for row in options.rows}
    assert list(rows) == [*yaml.safe_load(FIELD_MATRIX.read_text())["variants"], TEXT_ROW]
    # An adapter in each of the three layers, whatever the common gates are.
    assert make_config(rows["Adapters"], TEST).gate_layers == [1, 2, 3]
    with pytest.raises(SystemExit):
        parse(tmp_path, "--matrix", str(tmp_path / "none.yaml"))
    assert "there is no such file" in capsys.readouterr().err


def test_the_fields_fusions_are_measured_as_the_papers(tmp_path):
    chosen = ["Adapters", "Modulation", "K-means"]
    options = ("--samples", "1", "--warmups", "0", "--matrix", str(FIELD_MATRIX), "--variants", *chosen)
    content = run(tmp_path, *options)
    # Hand-counted at width 64, with a rank of 64: four projections, down and up with their biases, two norms.
    adapter = 4 * 64 * 64 + 2 * 64 * 65 + 2 * 64
    assert content["rows"]["Adapters"]["parameters"]["adapters"] == 3 * adapter
    assert list(content["rows"]) == [*chosen, TEXT_ROW]
    assert {row["prompt_tokens"] for row in content["rows"].values()} == {12}
