"""`spectra-sum push metrics`: what `evaluate.load` gives elsewhere, the Spaces' files, and their app."""

import json
import subprocess
import sys
from pathlib import Path

import gradio
import httpx
import pytest
from huggingface_hub import SpaceCard
from packaging.requirements import Requirement

from hub_upload.errors import HubError
from hub_upload.metrics import app as metric_app
from hub_upload.metrics.push import find_metrics, push_metrics
from hub_upload.metrics.requirements import metric_files
from hub_upload.space.versions import GRADIO_VERSION
from spectra_sum.cli import main
from spectra_sum.metrics import load_metric
from tests.bare_process import WITHOUT_THE_PROJECT
from tests.spectra_sum.metrics.conftest import tiny_bert  # noqa: F401
from tests.spectra_sum.metrics.test_image_metrics import save_encoder
from tests.tiny import picture

pytestmark = pytest.mark.usefixtures("preloaded_python")

CASES = Path(__file__).parents[2] / "spectra_sum" / "metrics" / "cases"
NAMES = [
    "bleu",
    "cider",
    "clip_score",
    "image_precision",
    "max_sim",
    "mmae",
    "pairwise_cosine_distance",
    "summary_bertscore",
    "summary_rouge",
    "visual_facts",
]
TAKEN_BY = "taken_by_a_test_of_spectra_sum.txt"
SIMILARITY_METRICS = ("clip_score", "max_sim", "pairwise_cosine_distance")
LIMITS = {
    "bleu": "A text without tokens matches nothing",
    "cider": "A text without words scores 0",
    "clip_score": "An article without images is left out",
    "image_precision": "Articles without gold images are left out",
    "max_sim": "An article without images is left out",
    "mmae": "What an article without gold images",
    "pairwise_cosine_distance": "Without text in the summary no image is relevant.",
    "summary_bertscore": "A summary without a token scores 0",
    "summary_rouge": "A summary that has no text scores 0",
    "visual_facts": "An empty\nsummary states nothing",
}
BARE = (
    WITHOUT_THE_PROJECT
    + """
import json
import evaluate

asked = json.load(sys.stdin)
results = {}
for repo_id, inputs in asked.items():
    metric = evaluate.load(repo_id, module_type="metric")
    results[repo_id] = [metric.compute(**arguments) for arguments in inputs]
json.dump(results, open(sys.argv[1], "w"))
"""
)


@pytest.fixture
def space_ids(hub):
    """The ids under which the metrics are pushed, deleted at the end."""
    ids = {name: f"{hub.namespace}/{name}" for name in NAMES}
    for repo_id in ids.values():
        if hub.api.repo_exists(repo_id, repo_type="space"):
            # A run of these tests that was killed leaves its Spaces behind.
            if not is_of_this_project(hub, repo_id):
                pytest.skip(f"{hub.namespace} has a Space {repo_id}, which the test would change")
            hub.api.delete_repo(repo_id, repo_type="space")
    hub.made.extend(("space", repo_id) for repo_id in ids.values())
    return ids


def is_of_this_project(hub, repo_id: str) -> bool:
    """Whether a Space has the card of a metric, or the file by which a test takes its name."""
    files = hub.api.list_repo_files(repo_id, repo_type="space")
    return TAKEN_BY in files or (
        "README.md" in files and "spectra-sum" in (SpaceCard.load(repo_id).data.to_dict().get("tags") or [])
    )


@pytest.fixture(scope="module")
def staged(tmp_path_factory):
    """What would be pushed of all metrics; it is made offline."""
    folder = tmp_path_factory.mktemp("dry") / "metrics"
    assert main(["push", "metrics", "--namespace", "ns", "--dry-run", str(folder)]) == 0
    return folder


def inputs_of(name: str, bert: Path, encoder: Path, images: list[str]) -> list[dict]:
    cases = json.loads((CASES / f"{name}.json").read_text(encoding="utf-8"))["cases"]
    inputs = [case["inputs"] for case in cases if "error" not in case][:4]
    inputs = json.loads(json.dumps(inputs).replace("<tiny-bert>", str(bert)))
    if name in SIMILARITY_METRICS:
        summary = "Two bridges were closed.\nThe harbour reopened on Monday."
        inputs.append({"predictions": [summary], "references": [images], "model": str(encoder), "per_example": True})
    return inputs


def test_a_bare_machine_computes_the_same_values(hub, space_ids, tmp_path, tiny_bert, capsys):  # noqa: F811
    assert main(["push", "metrics", "--namespace", hub.namespace]) == 0
    assert [line.split(":")[0] for line in capsys.readouterr().err.splitlines() if "error" in line] == []
    commits = {name: hub.api.list_repo_commits(repo_id, repo_type="space") for name, repo_id in space_ids.items()}
    assert {name: len(made) for name, made in commits.items()} == dict.fromkeys(NAMES, 2)

    images = [str(tmp_path / f"{number}.png") for number in range(2)]
    for number, path in enumerate(images):
        picture(number).save(path)
    encoder = save_encoder(tmp_path / "encoder", "siglip")
    asked = {repo_id: inputs_of(name, tiny_bert, encoder, images) for name, repo_id in space_ids.items()}
    assert all(len(inputs) >= 3 for inputs in asked.values())
    process = subprocess.run(
        [sys.executable, "-I", "-c", BARE, str(tmp_path / "results.json")],
        input=json.dumps(asked),
        env=hub.environment(tmp_path / "home", HF_UPDATE_DOWNLOAD_COUNTS="0"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    for name, repo_id in space_ids.items():
        local = load_metric(name)
        for inputs, result in zip(asked[repo_id], results[repo_id], strict=True):
            assert result == json.loads(json.dumps(local.compute(**inputs))), f"{name}: {inputs}"

    capsys.readouterr()
    assert main(["push", "metrics", "--namespace", hub.namespace]) == 0
    assert capsys.readouterr().out.count("nothing to change") == len(NAMES)
    for name, repo_id in space_ids.items():
        assert hub.api.list_repo_commits(repo_id, repo_type="space") == commits[name]


def test_a_name_that_is_taken_does_not_keep_the_others(hub, space_ids, capsys):
    hub.api.create_repo(space_ids["mmae"], repo_type="space", space_sdk="static", private=True)
    hub.api.upload_file(path_or_fileobj=b"other", path_in_repo=TAKEN_BY, repo_id=space_ids["mmae"], repo_type="space")
    before = hub.api.list_repo_files(space_ids["mmae"], repo_type="space")
    only = ["--only", "mmae", "visual_facts", "--private"]
    assert main(["push", "metrics", "--namespace", hub.namespace, *only]) == 1
    output = capsys.readouterr()
    assert space_ids["visual_facts"] in output.out
    (line,) = [line for line in output.err.splitlines() if "error" in line]
    assert space_ids["mmae"] in line and "taken" in line
    assert hub.api.list_repo_files(space_ids["mmae"], repo_type="space") == before
    assert hub.api.space_info(space_ids["visual_facts"]).private
    assert not hub.api.repo_exists(space_ids["image_precision"], repo_type="space")


def test_all_metrics_are_found_and_each_space_is_complete(staged):
    assert sorted(path.name for path in staged.iterdir()) == NAMES
    for name in NAMES:
        files = {path.name for path in (staged / name).iterdir()}
        beside = {"article_embeddings.py", "dual_encoder.py", "rgb_images.py"} if name in SIMILARITY_METRICS else set()
        beside |= {"unicode_tokenizer.py"} if name == "summary_rouge" else set()
        beside |= {"reference_texts.py"} if name in ("bleu", "cider") else set()
        beside |= {"cider_d.py"} if name == "cider" else set()
        expected = {"README.md", "app.py", "example.json", "requirements.txt", f"{name}.py"}
        assert files == expected | beside
        assert not any(path.is_symlink() for path in (staged / name).iterdir())
        card = SpaceCard.load(staged / name / "README.md")
        assert {"evaluate", "metric", "spectra-sum"} <= set(card.data.tags)
        assert (card.data.title, card.data.sdk, card.data.app_file) == (name, "gradio", "app.py")
        assert f'evaluate.load("ns/{name}")' in card.text
        metric = load_metric(name)
        for text in (metric.inputs_description, metric.citation):
            assert text.strip() in card.text
        # The description, whose end stands under its own heading.
        before, after = card.text.split("## How to use")[0], card.text.split("## Limits")[1].split("On the page of")[0]
        assert f"{before}{after}".split() == f"# {name} {metric.description}".split()
        assert after.strip().startswith(LIMITS[name])


def test_requirements_are_what_the_files_import_with_the_projects_ranges(staged):
    needed = {name: (staged / name / "requirements.txt").read_text().split() for name in NAMES}
    assert [Requirement(line) for line in needed["summary_rouge"]] == [
        Requirement(line)
        for line in (
            "datasets>=5.2,<6",
            "evaluate>=0.4.6,<0.5",
            "numpy>=2,<3",
            "rouge_score>=0.1.2,<0.2",
            "scipy>=1.15,<2",
        )
    ]
    packages = {name: [Requirement(line).name for line in lines] for name, lines in needed.items()}
    assert packages["mmae"] == packages["cider"] == ["datasets", "evaluate"]
    assert packages["bleu"] == ["datasets", "evaluate", "sacrebleu"]
    # numpy by the metric itself, the others by the modules beside it, inside of functions too; and what transformers
    # imports to read SigLIP's own tokenizer.
    tokenizer = ["protobuf", "sentencepiece"]
    for name in SIMILARITY_METRICS:
        assert sorted({*packages[name]} - {*tokenizer}) == [
            *("datasets", "evaluate", "numpy", "pillow", "torch", "transformers")
        ]
        assert [package for package in packages[name] if package in tokenizer] == tokenizer
    assert packages["summary_bertscore"] == ["bert_score", "datasets", "evaluate", "torch", "transformers"]


def test_metrics_that_cannot_work_from_the_hub_are_refused_and_the_others_staged(tmp_path):
    sources = {
        "good": "import evaluate\n\n\nclass Good(evaluate.Metric):\n    def _info(self):\n"
        "        return evaluate.MetricInfo(description='d', citation='c', inputs_description='i', features=FEATURES)\n",
        "absent": "import evaluate\nimport a_package_that_nobody_has\n",
        "upwards": "import evaluate\nfrom ..dual_encoder import DualEncoder\n",
        "no_metric": "VALUE = 1\n",
        "indirect": "from .one import a\n",
    }
    sources["good"] = sources["good"].replace(
        "import evaluate\n", "import datasets\nimport evaluate\n\nFEATURES = datasets.Features({})\n", 1
    )
    for name, source in sources.items():
        (tmp_path / "metrics" / name).mkdir(parents=True)
        (tmp_path / "metrics" / name / f"{name}.py").write_text(source)
    (tmp_path / "metrics" / "indirect" / "one.py").write_text("from .two import a\n")
    (tmp_path / "metrics" / "indirect" / "two.py").write_text("a = 1\n")
    (tmp_path / "metrics" / "notes").mkdir()
    metrics = find_metrics(tmp_path / "metrics")
    assert sorted(metrics) == sorted(sources)
    lines = []
    failures = push_metrics(metrics, "ns", dry_run=tmp_path / "dry", report=lines.append)
    assert sorted(path.name for path in (tmp_path / "dry").iterdir()) == ["good"]
    assert lines == ["ns/good: would be pushed"]
    messages = " | ".join(map(str, failures))
    assert len(failures) == 4
    for part in ("a_package_that_nobody_has", "upwards.py: line 2", "ns/no_metric", "one.py: it imports .two"):
        assert part in messages
    with pytest.raises(HubError, match="two"):
        metric_files(tmp_path / "metrics" / "indirect")


def test_the_app_computes_the_example_and_says_what_is_wrong(staged):
    for name in set(NAMES) - {"summary_bertscore"}:
        example = json.loads((staged / name / "example.json").read_text())["inputs"]
        result = metric_app.compute(staged / name / f"{name}.py", json.dumps(example))
        assert result == load_metric(name).compute(**example)
    assert json.loads((staged / "summary_bertscore" / "example.json").read_text())["inputs"]

    precision = staged / "image_precision" / "image_precision.py"
    sound = {"predictions": [[0, 2]], "references": [[2]]}
    assert metric_app.compute(precision, json.dumps(sound))["image_precision"] == 0.5
    for text, message in {
        "{": "no JSON",
        "[]": "predictions, references",
        json.dumps({**sound, "k": 0}): "at least 1",
        json.dumps({**sound, "k": "one"}): "options are numbers",
        json.dumps({**sound, "k": 10**9}): "options are numbers",
        json.dumps({**sound, "other": 1}): "other",
        json.dumps({"predictions": [[0]], "references": [[]]}): "nothing to average",
        " " * 20_001: "20,001 characters",
        "[" * 20_000: "nested too deeply",
    }.items():
        with pytest.raises(ValueError, match=message):
            metric_app.compute(precision, text)
    # Deep enough to be read, and too deep for the metric, wherever that is.
    for depth in range(500, 1000, 10):
        with pytest.raises(ValueError, match="nested too deeply|don't match the expected format"):
            metric_app.compute(precision, f'{{"predictions": [[0]], "references": {"[" * depth}{"]" * depth}}}')
    # A visitor can neither have a model fetched nor a file of the Space read.
    summaries = {"predictions": ["A summary."], "references": [["/etc/hostname"]]}
    for more, message in (({}, "need a dual encoder"), ({"model": "a/b"}, "options are numbers")):
        with pytest.raises(ValueError, match=message):
            metric_app.compute(staged / "max_sim" / "max_sim.py", json.dumps({**summaries, **more}))


def test_the_page_shows_the_result_and_escapes_what_was_typed(staged):
    app = metric_app.build_app(staged / "image_precision")
    (function,) = [block.fn for block in app.fns.values() if block.api_name == "compute"]
    assert function('{"predictions": [[0]], "references": [[0]]}')["image_precision"] == 1.0
    with pytest.raises(gradio.Error) as caught:
        function('{"predictions": [[0]], "references": [[0]], "<b>": 1}')
    assert "&lt;b&gt;" in caught.value.message and "<b>" not in caught.value.message
    assert GRADIO_VERSION.split(".")[0] == gradio.__version__.split(".")[0]


def test_the_server_takes_no_files(staged, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    app = metric_app.build_app(staged / "image_precision")
    assert app.delete_cache == (3600, 3600)
    try:
        url = metric_app.launch(app, wait=False)
        answer = httpx.post(f"{url}gradio_api/upload", files={"files": ("large.png", b"0" * 1_001)})
        assert answer.status_code == 413
    finally:
        app.close(verbose=False)


def test_an_unknown_metric_is_refused(capsys):
    assert main(["push", "metrics", "--namespace", "ns", "--only", "meteor"]) == 2
    error = capsys.readouterr().err
    assert "meteor" in error and "image_precision" in error
