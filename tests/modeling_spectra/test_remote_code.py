"""A saved folder carries its code: it loads, generates and saves again in a fresh process that lacks the project."""

import ast
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import Trainer, TrainingArguments

import modeling_spectra
from modeling_spectra import SpectraSumForConditionalGeneration, SpectraSumProcessor
from tests.bare_process import WITHOUT_THE_PROJECT
from tests.tiny import SENTENCES, picture, save_text_folder, save_vision_folder
from tests.tiny_instructblip import save_instructblip_folder

PACKAGE = Path(modeling_spectra.__file__).parent
VARIANTS = {
    "dvp": ("siglip", "qwen2", {"fusion": "dvp", "dvp_num_layers": 3, "gate_layers": [1, 3], "num_latents": 2}),
    "concat": ("clip", "llama", {"fusion": "concat", "vrp_context": "article_set"}),
}
AUTO_CLASSES = {"AutoConfig", "AutoModel", "AutoModelForImageTextToText", "AutoProcessor"}

# What a user runs who has torch, transformers and pillow, and the folder.
USER_SCRIPT = (
    WITHOUT_THE_PROJECT
    + """

import hashlib, json
import torch
from transformers import AutoConfig, AutoModel, AutoModelForImageTextToText, AutoProcessor, pipeline

torch.set_num_threads(1)
job = json.loads(sys.stdin.read())
result = {}
for name, folder in job["folders"].items():
    config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
    data = processor(text=job["text"], title=job["title"], images=[job["images"], [], job["images"][:1]])
    result[name] = {"config": type(config).__module__, "processor": type(processor).__module__}
    for auto in (AutoModel, AutoModelForImageTextToText):
        model = auto.from_pretrained(folder, trust_remote_code=True).eval()
        result[name][auto.__name__] = {
            "module": type(model).__module__,
            "hashes": {
                key: hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()
                for key, tensor in model.state_dict().items()
            },
            "tokens": model.generate(**data, **job["options"]).tolist(),
        }
    selected = model.select_images(**data)
    result[name]["selected"] = selected.indices
    model.save_pretrained(job["output"] + "/" + name + "_again")
    processor.save_pretrained(job["output"] + "/" + name + "_again")
    summarize = pipeline("multimodal-summarization", model=folder, trust_remote_code=True, max_new_tokens=5)
    result[name]["pipeline"] = type(summarize).__module__
    result[name]["summaries"] = summarize(job["articles"], batch_size=3, num_beams=2, return_evidence=True)
    summarize.save_pretrained(job["output"] + "/" + name + "_pipeline")
    # A single custom task needs no name.
    summarize = pipeline(model=job["output"] + "/" + name + "_pipeline", trust_remote_code=True, max_new_tokens=5)
    result[name]["saved_summaries"] = summarize(job["articles"], batch_size=3, num_beams=2, return_evidence=True)
    # transformers' own pipeline takes the same articles as chats.
    converse = pipeline("image-text-to-text", model=folder, trust_remote_code=True)
    result[name]["replies"] = []
    for article in job["articles"]:
        images = [{"type": "image", "path": image} for image in article["images"]]
        chat = [{"role": "user", "content": [*images, {"type": "text", "text": article["text"]}]}]
        title = {"title": article["title"]}
        [reply] = converse(chat, processor_kwargs=title, generate_kwargs=job["options"], return_full_text=False)
        result[name]["replies"].append(reply["generated_text"].strip())
result["loaded"] = sorted(PROJECT & set(sys.modules))
result["unneeded"] = sorted({"trl", "datasets", "evaluate", "peft"} & set(sys.modules))
print("RESULT" + json.dumps(result))
"""
)


def articles(images):
    """The same three articles for the pipeline."""
    keys = ("text", "title", "images")
    rows = zip(SENTENCES[:3], ["", "Storm", "Ships"], [images, [], images[:1]], strict=True)
    return [dict(zip(keys, row, strict=True)) for row in rows]


def run_as_a_user(folders, images, root):
    """Run the script in an isolated interpreter, in an empty folder, with an empty module cache."""
    root.mkdir()
    (root / "cwd").mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment |= {"HF_MODULES_CACHE": str(root / "modules"), "HF_HOME": str(root / "home"), "HF_HUB_OFFLINE": "1"}
    job = {
        "folders": {name: str(folder) for name, folder in folders.items()},
        "text": SENTENCES[:3],
        "title": ["", "Storm", "Ships"],
        "images": images,
        "articles": articles(images),
        "options": {"max_new_tokens": 5, "num_beams": 2, "do_sample": False},
        "output": str(root),
    }
    run = subprocess.run(
        [sys.executable, "-I", "-c", USER_SCRIPT],
        input=json.dumps(job),
        capture_output=True,
        text=True,
        cwd=root / "cwd",
        env=environment,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    line = next(line for line in run.stdout.splitlines() if line.startswith("RESULT"))
    return json.loads(line.removeprefix("RESULT"))


def build(name, root):
    if name == "instructblip":
        folder = save_instructblip_folder(root / "instructblip_checkpoint")
        return SpectraSumForConditionalGeneration.from_instructblip(str(folder), image_guidance="bidirectional")
    vision, text, fields = VARIANTS[name]
    return SpectraSumForConditionalGeneration.from_backbones(
        str(save_vision_folder(root / f"{name}_{vision}", vision)),
        str(save_text_folder(root / f"{name}_{text}", text, chat=name == "dvp")),
        **fields,
    )


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The folders of three models, the pictures, and what the project itself makes of them."""
    root = tmp_path_factory.mktemp("remote")
    images = []
    for index in range(2):
        picture(index).save(root / f"{index}.png")
        images.append(str(root / f"{index}.png"))
    folders, expected = {}, {}
    for name in ("instructblip", *VARIANTS):
        model, processor = build(name, root)
        with torch.no_grad():
            if model.visual_path.image_guidance is not None:
                model.visual_path.image_guidance.context_proj.weight.normal_(std=0.5)
            for module in (model.visual_path.cross_attentions or {}).values():
                module.gate.alpha.fill_(0.7)
        folders[name] = root / name
        model.save_pretrained(folders[name])
        processor.save_pretrained(folders[name])
        data = processor(text=SENTENCES[:3], title=["", "Storm", "Ships"], images=[images, [], images[:1]])
        expected[name] = {
            "hashes": {
                key: hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()
                for key, tensor in model.state_dict().items()
            },
            "tokens": model.generate(**data, max_new_tokens=5, num_beams=2, do_sample=False).tolist(),
            "selected": model.select_images(**data).indices,
            "texts": processor.decode_summaries(
                model.generate(**data, max_new_tokens=5, num_beams=2, do_sample=False), data["input_ids"].shape[1]
            ),
        }
    # What a Trainer saves is complete as well.
    trainer = Trainer(
        model, TrainingArguments(str(root / "run"), report_to="none", use_cpu=True), processing_class=processor
    )
    folders["trainer"], expected["trainer"] = root / "trainer", expected[name]
    trainer.save_model(str(folders["trainer"]))
    return folders, images, expected


def assert_equal(result, expected):
    for name, own in expected.items():
        found = result[name]
        for kind in ("config", "processor"):
            assert found[kind].startswith("transformers_modules."), kind
        for auto in ("AutoModel", "AutoModelForImageTextToText"):
            assert found[auto]["module"].startswith("transformers_modules.")
            assert found[auto]["hashes"] == own["hashes"]
            assert found[auto]["tokens"] == own["tokens"]
        assert found["selected"] == own["selected"]
        assert found["pipeline"].startswith("transformers_modules.")
        assert [result["summary_text"] for result in found["summaries"]] == own["texts"]
        indices = [[image["index"] for image in result["selected_images"]] for result in found["summaries"]]
        assert indices == own["selected"]
        gated = name == "dvp"
        assert [bool(result["evidence"]) for result in found["summaries"]] == [gated, False, gated]
        assert found["saved_summaries"] == found["summaries"]
        assert found["replies"] == own["texts"]
    assert result["loaded"] == [] and result["unneeded"] == []


def test_a_fresh_process_loads_generates_and_saves_again(saved, tmp_path):
    folders, images, expected = saved
    first = run_as_a_user(folders, images, tmp_path / "first")
    assert_equal(first, expected)
    again = {name: tmp_path / "first" / f"{name}_again" for name in folders}
    assert_equal(run_as_a_user(again, images, tmp_path / "second"), expected)


def test_a_saved_folder_is_complete(saved):
    folders, _, _ = saved
    sources = {file.name for file in PACKAGE.glob("*.py")} - {"__init__.py"}
    for folder in folders.values():
        assert sources == {file.name for file in folder.glob("*.py")}
        for source in sources:
            assert (folder / source).read_bytes() == (PACKAGE / source).read_bytes()
        auto_map = json.loads((folder / "config.json").read_text())["auto_map"]
        assert set(auto_map) == AUTO_CLASSES
        for reference in auto_map.values():
            module, name = reference.split(".")
            tree = ast.parse((folder / f"{module}.py").read_text())
            assert name in {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
        custom = json.loads((folder / "config.json").read_text())["custom_pipelines"]
        assert custom == {
            "multimodal-summarization": {
                "impl": "pipeline_spectra.MultimodalSummarizationPipeline",
                "pt": ["AutoModelForImageTextToText"],
            }
        }
        processor = json.loads((folder / "processor_config.json").read_text())
        assert processor["processor_class"] == "SpectraSumProcessor"
        assert processor["auto_map"] == {"AutoProcessor": auto_map["AutoProcessor"]}


def test_the_project_loads_its_own_folders(saved):
    folders, images, expected = saved
    for name, folder in folders.items():
        model = SpectraSumForConditionalGeneration.from_pretrained(folder)
        processor = SpectraSumProcessor.from_pretrained(folder)
        data = processor(text=SENTENCES[:3], title=["", "Storm", "Ships"], images=[images, [], images[:1]])
        tokens = model.generate(**data, max_new_tokens=5, num_beams=2, do_sample=False).tolist()
        assert tokens == expected[name]["tokens"]


def test_the_published_modules_import_only_what_a_user_has():
    """The Hub's loader copies single-dot siblings and nothing else."""
    siblings = {file.stem for file in PACKAGE.glob("*.py")}
    # torch brings jinja2, and chat templates need it; transformers brings numpy.
    allowed = {"torch", "transformers", "PIL", "jinja2", "numpy"} | set(sys.stdlib_module_names)
    checked = 0
    for file in PACKAGE.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                roots = {alias.name.partition(".")[0] for alias in node.names}
                assert roots <= allowed, (file.name, roots)
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                assert node.module.partition(".")[0] in allowed, (file.name, node.module)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 1 and node.module in siblings, (file.name, node.module)
                checked += 1
    assert checked > 10
