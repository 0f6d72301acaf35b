"""README and docs/: their commands and their Python run, the file tree is true, and figures come from committed results."""

import ast
import importlib
import json
import os
import re
import shlex
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.result_tables import OWN_TABLES
from spectra_sum.cli import build_parser
from spectra_sum.cli import main as spectra_sum
from spectra_sum.models.sources import ModelError, find_minilm
from spectra_sum.msmo import load_msmo
from spectra_sum.msmo.closed_world import closed_world_dataset
from tests.tiny import save_text_folder, save_vision_folder, tiny_tokenizer
from tests.tiny_llava_onevision import save_llava_onevision_folder, save_siglip_folder
from trainer.closed_world.report import write_example
from trainer.train import parse_arguments

pytestmark = pytest.mark.usefixtures("preloaded_python")

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
}
RESULTS_PAGE = PAGES["docs/results.md"]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(language: str, page: str | None = None) -> list[str]:
    texts = PAGES.values() if page is None else [PAGES[page]]
    return [body for text in texts for name, body in FENCE.findall(text) if name == language]


def commands(start: str, page: str | None = None) -> list[list[str]]:
    """Every command of a page, or of all, that starts so, once."""
    lines = [line for block in blocks("bash", page) for line in block.splitlines() if line.startswith(start)]
    assert lines, f"no page has a command that starts with {start!r}"
    return [shlex.split(line) for line in dict.fromkeys(lines)]


def section(name: str) -> list[list[str]]:
    """The cells of the tables between the marks of a section, without heads and rules."""
    text = RESULTS_PAGE.split(f"<!-- {name} -->")[1].split(f"<!-- /{name} -->")[0]
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows if not set("".join(row)) <= set("-: ")]


def minilm_is_installed() -> bool:
    try:
        find_minilm()
    except ModelError:
        return False
    return True


def make_checkout(folder: Path) -> Path:
    """A folder with the examples, and what `make experiment` leaves in runs/experiment, made from a tiny untrained model."""
    from modeling_spectra import SpectraSumForConditionalGeneration

    vision, text = save_vision_folder(folder / "vision"), save_text_folder(folder / "text")
    model, processor = SpectraSumForConditionalGeneration.from_backbones(
        str(vision), str(text), num_latents=2, dvp_num_layers=2, gate_layers=[1, 2], gate_init=0.5, sampler_depth=1
    )
    demo = folder / "runs" / "experiment"
    for target in (demo / "model", demo / "variants" / "text-only" / "model"):
        model.save_pretrained(target)
        processor.save_pretrained(target)
    articles = closed_world_dataset({"test": 24}, seed=0)
    articles.save_to_disk(demo / "articles")
    write_example(demo / "example", articles["test"][0])
    tiny_tokenizer().save_pretrained(save_vision_folder(demo / "backbones" / "siglip"))
    shutil.copytree(ROOT / "examples", folder / "examples")
    return folder


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkout(tmp_path_factory.mktemp("checkout"))


def test_python_example_runs(checkout):
    (code,) = blocks("python", "README.md")
    assert len([line for line in code.splitlines() if line]) <= 10
    done = subprocess.run([sys.executable, "-c", code], cwd=checkout, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    selected = json.loads(done.stdout.splitlines()[-1])
    images = list((checkout / "runs" / "experiment" / "example").glob("*.png"))
    assert len(set(selected)) == 3 and set(selected) <= set(range(len(images)))


def test_summarizer_example_runs(checkout):
    (code,) = blocks("python", "docs/summarize.md")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=checkout, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    # An attention weight per image ends the line.
    weights = ast.literal_eval(done.stdout[done.stdout.rindex("[") :])
    assert len(weights) == len(list((checkout / "runs" / "experiment" / "example").glob("*.png")))


def test_data_example_runs(tmp_path):
    (code,) = blocks("python", "docs/data.md")
    layout, article, annotation = blocks("", "docs/data.md")
    folder = tmp_path / "FOLDER" / "test_data"
    for name in re.findall(r"^ {4,6}([a-z_]+)/", layout, re.MULTILINE):
        (folder / name).mkdir(parents=True)
    (folder / "article" / "0a1b2c.txt").write_text(article)
    for name in re.findall(r"0a1b2c_\d\.jpg", layout):
        Image.new("RGB", (40, 40), "teal").save(folder / "img" / name)
    for name, text in {"caption": "The first ships.", "alt": "Two ships at a quay."}.items():
        (file,) = re.findall(rf"0a1b2c_\d\.{name}\b", layout)
        (folder / name / file).write_text(text)
    (folder / "image_annotation.txt").write_text(annotation.splitlines()[0] + "\n")
    environment = {**os.environ, "HF_DATASETS_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-1] == "The harbour reopens 2"
    record = load_msmo(tmp_path / "FOLDER", cache_dir=tmp_path / "again")["test"][0]
    assert record["summary"] == ["The harbour reopened on Monday.", "The market follows next week."]
    assert record["gold_images"] == [0]
    assert record["captions"] == ["The first ships.", ""] and record["alt_texts"] == ["Two ships at a quay.", ""]
    columns = re.findall(r"^\| `(\w+)` \|", PAGES["docs/data.md"], re.MULTILINE)
    assert columns == list(record)


def test_metric_example_runs():
    (code,) = [block for block in blocks("python") if "spectra_sum/metrics/image_precision" in block]
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    result = ast.literal_eval(done.stdout)
    # One of the two selected images is gold, the first one at that; the second article has no gold.
    assert (result["image_precision"], result["ip_at_k"], result["articles_without_gold"]) == (0.5, 1.0, 1)


def test_the_metrics_for_captions_print_what_the_page_shows():
    (code,) = [block for block in blocks("python") if "spectra_sum/metrics/cider" in block]
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    shown = [line for line in PAGES["docs/evaluate.md"].splitlines() if line.startswith(("{'cider'", "{'bleu'"))]
    for found, expected in zip(
        map(ast.literal_eval, done.stdout.splitlines()), map(ast.literal_eval, shown), strict=True
    ):
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            if name != "signature":
                assert found[name] == pytest.approx(value), name
    # Up to the version of the library.
    assert found["signature"].rpartition("|")[0] == expected["signature"].rpartition("|")[0]


def test_llava_onevision_example_runs(tmp_path):
    (code,) = [block for block in blocks("python") if "from_llava_onevision" in block]
    siglip = save_siglip_folder(tmp_path / "siglip")
    folder = save_llava_onevision_folder(tmp_path / "llava_onevision", siglip)
    code = re.sub('"llava-hf/[^"]*"', repr(str(folder)), re.sub('"google/siglip[^"]*"', repr(str(siglip)), code))
    small = "dvp_num_layers=2, gate_layers=[1, 2], output_loading_info=True"
    done = subprocess.run(
        [sys.executable, "-c", code.replace("output_loading_info=True", small)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "bit for bit those of the files" in done.stdout


def test_metrics_are_all_listed():
    page = PAGES["docs/evaluate.md"].split("## Metrics")[1]
    rows = [line for line in page.splitlines() if re.match(r"\| `\w+` \|", line)]
    folders = {path.parent.name for path in (ROOT / "spectra_sum" / "metrics").glob("*/__init__.py")}
    assert {re.findall(r"`(\w+)`", row)[0] for row in rows} == folders


def write_instructions(folder: Path) -> None:
    """The instructions about images and the answers of docs/data.md and docs/evaluate.md, with images of one colour."""
    (annotations,) = [block for block in blocks("json", "docs/data.md") if "img_list" in block]
    (folder / "annotations.json").write_text(annotations)
    for name in (name for record in json.loads(annotations) for name in record["img_list"]):
        Image.new("RGB", (40, 30), (90, 60, 120)).save(folder / name)
    (answers,) = [block for block in blocks("json", "docs/evaluate.md") if '"summary"' in block]
    (folder / "answers.jsonl").write_text(answers)


def test_instructions_are_read_and_answers_scored_as_the_pages_show(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_instructions(tmp_path)
    shown = {block.strip() for page in ("docs/data.md", "docs/evaluate.md") for block in blocks("text", page)}
    for start in (
        ".venv/bin/spectra-sum data check annotations",
        ".venv/bin/spectra-sum evaluate --predictions answers",
    ):
        (command,) = commands(start)
        assert spectra_sum(command[1:]) == 0
        printed = capsys.readouterr().out.strip()
        assert printed in shown, printed


def test_evaluation_commands_run(checkout, monkeypatch, capsys):
    monkeypatch.chdir(checkout)
    write_instructions(checkout)
    page = "docs/evaluate.md"
    (of_the_readme,) = commands(".venv/bin/spectra-sum evaluate", "README.md")
    assert spectra_sum(of_the_readme[1:]) == 0
    for command in commands(".venv/bin/spectra-sum evaluate", page):
        arguments = ["runs/experiment/articles" if word == "FOLDER" else word for word in command[1:]]
        if "smollm2" in arguments or "runs/smollm2_lora" in arguments:
            # The weights of a package and hours of training are not at hand here.
            assert build_parser().parse_args(arguments).selection == "random"
        elif "centroid" in arguments and not minilm_is_installed():
            assert build_parser().parse_args(arguments).limit
        else:
            # Baselines write no tokens.
            assert spectra_sum([*arguments, *(["--max-new-tokens", "8"] if "--model" in arguments else [])]) == 0
    capsys.readouterr()
    of_the_demo, of_real_articles = commands(".venv/bin/spectra-sum tables", page)
    assert spectra_sum(of_the_demo[1:]) == 0
    made = {Path(command[-1]) for command in commands(".venv/bin/spectra-sum evaluate", page)}
    assert set(map(Path, of_the_demo[2:] + of_real_articles[2:])) <= made
    printed = capsys.readouterr().out
    for name in ("mm-dvp", "lead-3", "text-only", "oracle"):
        metrics = json.loads((checkout / "runs" / "evaluation" / name / "metrics.json").read_text())
        assert f"{100 * metrics['scores']['rouge1']['value']:.2f}" in printed
    _export_and_analyse(checkout)


def _export_and_analyse(checkout: Path) -> None:
    export, analyse = commands(".venv/bin/spectra-sum human-eval")
    assert spectra_sum(export[1:]) == 0
    key = json.loads((checkout / "runs" / "human_eval" / "key.json").read_text())
    lines = ["item_id,worker_id,text_quality,image_relevance,image_diversity,overall"]
    for item_id, item in key["items"].items():
        lines.append(",".join([item_id, "rater", *[str(item["expected"] or 4)] * 4]))
    (checkout / "ANSWERS.csv").write_text("\n".join([*lines, ""]))
    assert spectra_sum(analyse[1:]) == 0
    result = json.loads((checkout / "runs" / "human_eval" / "results" / "human_eval.json").read_text())
    assert result["systems"]["mm-dvp"]["overall"]["mean"] == 4


def test_summarize_commands_run(checkout, monkeypatch, capsys):
    """Extracts run where the sentence encoder's package is installed. What loads a pretrained language model, as the default
    model or from the Hub, is read only: it takes minutes."""
    monkeypatch.chdir(checkout)
    ran = []
    for command in commands(".venv/bin/spectra-sum summarize"):
        options = build_parser().parse_args(command[1:])
        assert all(document == "MY_DOCUMENT.md" or Path(document).is_file() for document in options.documents), command
        extractive = options.mode == "extractive"
        if (options.model and Path(options.model).is_dir()) or (extractive and minilm_is_installed()):
            capsys.readouterr()
            assert spectra_sum(command[1:]) == 0
            printed = capsys.readouterr().out
            assert ("with score" if extractive else "with probability") in printed
            ran.append(extractive)
    assert sorted(ran) == [False, True][: 1 + minilm_is_installed()]


def test_training_commands_parse(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    (tmp_path / "stories.jsonl").touch()
    places = {**dict.fromkeys(("FOLDER", "$SPECTRA_DATA"), tmp_path), "stories.jsonl": tmp_path / "stories.jsonl"}
    for command in commands(".venv/bin/accelerate launch"):
        script = next(command.index(word) for word in command if word.startswith("trainer/") and word.endswith(".py"))
        assert (ROOT / command[script]).is_file()
        if "--config_file" in command:
            assert (ROOT / command[command.index("--config_file") + 1]).is_file()
        argv = [str(places.get(word, word)) for word in command[script + 1 :]]
        assert parse_arguments([*argv, "--use_cpu", "true"])[2].max_steps > 0


@pytest.mark.parametrize("server", ["app", "serve"])
def test_server_commands_parse(server):
    (command,) = commands(f".venv/bin/spectra-sum {server}")
    assert build_parser().parse_args(command[1:]).host == "127.0.0.1"


def test_benchmark_commands_parse(monkeypatch):
    monkeypatch.chdir(ROOT)
    # Those for a GPU are only read here.
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    written = set()
    for command in commands(".venv/bin/python benchmarks/"):
        module = importlib.import_module(f"benchmarks.{Path(command[1]).stem}")
        options = module.parse_options(command[2:])
        written.add(getattr(options, "result", None) or options.output)
    names = {"closed_world", "overhead_tiny", "overhead_7b", "overhead_0_5b", "training_tiny", "training_7b", "data"}
    names |= {"startup", "paired_test", "default_model", "default_model_no_captions", "figure_selection"}
    names |= {"long_documents", "dual_encoder", "real_pictures", "picture_summaries", "image_guidance"}
    names |= {
        "adapter_openstax",
        "closed_world_fusions",
        "closed_world_fusions_time",
        "overhead_field_fusions",
        "serve",
    }
    assert written == {RESULTS.relative_to(ROOT) / f"{name}.json" for name in names} | {Path("runs/quantization.json")}


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    for command in commands("make") + [
        ["make", target] for target in re.findall(r"`make ([a-z-]+)`", PAGES["README.md"])
    ]:
        assert re.search(rf"^{command[1]}:", makefile, re.MULTILINE), command


def test_file_tree_is_complete_and_true():
    (tree,) = blocks("", "docs/architecture.md")
    named, parents = set(), {}
    for line in tree.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        parents[depth] = parents[depth - 1] / line.split()[0] if depth else Path(line.split()[0])
        named.add(parents[depth])
        assert len(line.split()) > 1, f"no comment: {line}"
    for path in named:
        assert (ROOT / path).exists(), path
    # Every file at a package's door and in its rooms; rooms that are named without their files say what they are.
    for package in ("hub_upload", "modeling_spectra", "trainer", "spectra_sum"):
        assert {path.relative_to(ROOT) for path in (ROOT / package).glob("*.py")} - named <= {
            Path(package, "__init__.py")
        }
        rooms = {path.relative_to(ROOT).parent for path in (ROOT / package).glob("*/*.py")}
        assert rooms <= named, rooms - named
        for room in rooms & {path.parent for path in named}:
            files = {path.relative_to(ROOT) for path in (ROOT / room).glob("*.py")} - {room / "__init__.py"}
            assert files <= named, files - named


def test_tables_of_the_benchmarks_are_those_of_the_committed_results():
    for name, render in OWN_TABLES.items():
        expected = [line for line in render(json.loads((RESULTS / f"{name}.json").read_text())).splitlines() if line]
        found = RESULTS_PAGE.split(f"<!-- {name} -->")[1].split(f"<!-- /{name} -->")[0].splitlines()
        assert [line for line in found if line] == [line for line in expected if not line.startswith("#")], name
        assert len(section(name)) > 2, name


def test_equations_point_to_files():
    rows = [line for line in PAGES["docs/architecture.md"].splitlines() if line.startswith("|") and ".py`" in line]
    paths = re.findall(r"`([\w/]+\.py)`", "\n".join(rows))
    assert len(paths) >= 9
    for path in paths:
        assert (ROOT / path).is_file(), path


def test_demo_figures_are_those_of_the_committed_run():
    metrics = json.loads((RESULTS / "closed_world_demo.json").read_text())
    expected = {}
    for name, row in metrics["variants"].items():
        shares = [row["rougeL"], row["text_facts"], row["visual_facts"]["trend"], row["visual_facts"]["setting"]]
        expected[name] = [f"{share:.3f}" for share in shares] + [f"{row['seconds']:.0f}", f"{row['parameters']:,}"]
    for name, row in metrics["selection"].items():
        expected[name] = [f"{row['image_precision']:.3f}", f"{row['coverage']:.3f}"]
    found = {row[0]: row[1:] for row in section("demo")}
    for name, cells in expected.items():
        assert found[name] == cells, name
    assert metrics["hardware"]["processor"] in RESULTS_PAGE


def test_real_figures_are_those_of_the_committed_evaluations():
    found = {row[0]: row[1:] for row in section("real")}
    folders = sorted((RESULTS / "real_articles").iterdir())
    assert len(folders) == 4
    for folder in folders:
        metrics = json.loads((folder / "metrics.json").read_text())
        scores = [metrics["scores"][kind] for kind in ("rouge1", "rouge2", "rougeL")]
        assert found[metrics["system"]] == [
            f"{score['value']:.3f} ({score['low']:.3f} to {score['high']:.3f})" for score in scores
        ]
        assert f"{metrics['data']['articles']} test articles" in RESULTS_PAGE


@pytest.mark.parametrize(
    ("marked", "file"), [("world", "closed_world.json"), ("fusions", "closed_world_fusions.json")]
)
def test_figures_of_the_controlled_experiment_are_those_of_the_committed_run(marked, file):
    content = json.loads((RESULTS / file).read_text())
    text = RESULTS_PAGE.split(f"<!-- {marked} -->")[1].split(f"<!-- /{marked} -->")[0]
    worlds = dict(re.findall(r"^\*\*(\w+)\*\* .*\n\n((?:\|.*\n)+)", text, re.MULTILINE))
    assert set(worlds) == set(content["results"])
    for difficulty, result in content["results"].items():
        for run in result["runs"]:
            (row,) = re.findall(rf"^\| {run['variant']} \|.*$", worlds[difficulty], re.MULTILINE)
            assert f"{run['seed']}: {run['scores']['visual_facts']:.3f}" in row
    for name, scores in content["results"]["standard"]["selections"].items():
        mean = f"{statistics.fmean(scores['coverage']['values']):.3f}"
        assert [row for row in section(marked) if row[0] == name and row[2].startswith(mean)], name
    assert content["hardware"]["processor"] in text
    assert bool(content["missing"]) == ("jobs were not run" in text)


def test_the_readme_is_for_the_first_five_minutes():
    assert len(PAGES["README.md"].splitlines()) <= 150


def test_links_between_the_pages_lead_somewhere():
    for name, text in PAGES.items():
        for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", FENCE.sub("", text))):
            if target.startswith("https://"):
                continue
            path, _, anchor = target.partition("#")
            page = (ROOT / name).parent / path if path else ROOT / name
            assert page.exists(), (name, target)
            if anchor:
                headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
                assert anchor in {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


def test_every_command_of_a_page_shows_what_it_prints():
    """After a block of commands or Python stands a block of output, or a sentence that says what is printed."""
    for name, text in PAGES.items():
        pieces = re.split(r"^```(?:bash|python)\n.*?^```$", text, flags=re.DOTALL | re.MULTILINE)
        for piece in pieces[1:]:
            after = piece.split("\n## ")[0]
            assert re.search(r"^```text$|<!-- \w+ -->|print|writes|open", after, re.MULTILINE | re.IGNORECASE), (
                name,
                piece[:200],
            )
