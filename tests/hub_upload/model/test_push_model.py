"""A run becomes a repository that loads where the project is not installed, with the same tensors and outputs."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from datasets import Dataset
from huggingface_hub import HfApi, ModelCard
from huggingface_hub.hf_api import ModelInfo
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

import modeling_spectra
from hub_upload.cards.run_facts import read_run_facts
from hub_upload.errors import HubError
from hub_upload.model.folder import file_digests, find_model_folder
from hub_upload.model.fresh_process import compare_loaded, load_in_fresh_process, make_sample
from hub_upload.model.push import push_model
from hub_upload.model.pushed_base import parse_base, pin_base
from hub_upload.repository import Target
from modeling_spectra import SpectraSumForConditionalGeneration
from spectra_sum.cli import main
from spectra_sum.evaluation.run import EvaluationOptions, evaluate_system
from spectra_sum.evaluation.systems.sources import GenerationSettings
from spectra_sum.models.loading import load_model
from spectra_sum.models.sources import ModelError
from tests.bare_process import WITHOUT_THE_PROJECT
from tests.tiny import SENTENCES, picture, save_text_folder, save_vision_folder

pytestmark = pytest.mark.usefixtures("preloaded_python")

PROJECT = Path(__file__).parents[3]
CODE = {file.name for file in Path(modeling_spectra.__file__).parent.glob("*.py")} - {"__init__.py"}
RESUME_FILES = ("optimizer.pt", "rng_state.pth", "scheduler.pt", "training_args.bin")

# What a stranger runs: the libraries are there, the project is not.
STRANGER = (
    WITHOUT_THE_PROJECT
    + """
import json

import torch
from transformers import AutoModel, AutoProcessor, pipeline

torch.set_num_threads(1)
job = json.loads(sys.argv[1])
if job["adapter"]:
    from peft import AutoPeftModel as AutoModel
model = AutoModel.from_pretrained(job["id"], trust_remote_code=True).eval()
processor = AutoProcessor.from_pretrained(job["id"], trust_remote_code=True)
data = processor(**job["article"])
result = {"tokens": model.generate(**data, max_new_tokens=8, do_sample=False).tolist()}
result["selected"] = model.select_images(**data).indices[0]
if not job["adapter"]:
    summarizer = pipeline("multimodal-summarization", model=job["id"], trust_remote_code=True)
    result["pipeline"] = summarizer(job["article"], max_new_tokens=8)
print("RESULT" + json.dumps(result))
"""
)
# What a user of the project runs.
OWN = """
import json, sys
import torch
from spectra_sum.models.loading import load_model
from hub_upload.model.bare_load import tensor_digest

torch.set_num_threads(1)
job = json.loads(sys.argv[1])
result = {}
for name in job["ids"]:
    loaded = load_model(name)
    model, processor = loaded.model, loaded.processor
    tokens = model.generate(**processor(**job["article"]), max_new_tokens=8, do_sample=False).tolist()
    digests = {key: tensor_digest(value) for key, value in model.state_dict().items()}
    result[name] = {"tokens": tokens, "digests": digests, "module": type(model).__module__}
print("RESULT" + json.dumps(result))
"""


def run_script(script, job, environment, cwd, isolated=True):
    command = [sys.executable, *(["-I"] if isolated else []), "-c", script, json.dumps(job)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=cwd, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(next(line for line in done.stdout.splitlines() if line.startswith("RESULT"))[6:])


def outputs_of(model, processor, article):
    data = processor(**article)
    tokens = model.generate(**data, max_new_tokens=8, do_sample=False)
    return {
        "tokens": tokens.tolist(),
        "selected": model.select_images(**data).indices[0],
        "summary": processor.decode_summaries(tokens, data["input_ids"].shape[1])[0],
    }


def build_model(root):
    torch.manual_seed(0)
    model, processor = SpectraSumForConditionalGeneration.from_backbones(
        str(save_vision_folder(root / "siglip")),
        str(save_text_folder(root / "qwen2", chat=True)),
        fusion="dvp",
        dvp_num_layers=3,
        gate_layers=[1, 3],
        num_latents=2,
    )
    with torch.no_grad():
        for module in model.visual_path.cross_attentions.values():
            module.gate.alpha.fill_(0.7)
    return model, processor


@pytest.fixture(scope="module")
def article(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    for index in range(2):
        picture(index).save(root / f"{index}.png")
    return {"text": SENTENCES[0], "title": "Storm", "images": [str(root / f"{index}.png") for index in range(2)]}


@pytest.fixture(scope="module")
def full_run(tmp_path_factory, article):
    """The output folder of a run with whole weights, and what the model makes of the article."""
    root = tmp_path_factory.mktemp("full")
    run = root / "run"
    model, processor = build_model(root)
    model.save_pretrained(run)
    processor.save_pretrained(run)
    for name in RESUME_FILES:
        (run / name).write_bytes(b"\x80\x04")
    for name in ("notes.txt", "README.md", "modeling_spectra.py"):
        (run / name).write_text("# mine")
    backbones = {"vision": {"name": "google/siglip-base-patch16-224", "source": "hub"}}
    (run / "run.json").write_text(json.dumps({"backbones": backbones}))
    shutil.copytree(run, run / "checkpoint-2")
    return run, outputs_of(model, processor, article)


@pytest.fixture(scope="module")
def lora_run(tmp_path_factory, article):
    """The output folder of a LoRA run with its base, and what base with adapter makes of the article."""
    root = tmp_path_factory.mktemp("lora")
    run = root / "run"
    model, processor = build_model(root)
    for part in (model, processor):
        part.save_pretrained(run / "base")
    model.name_or_path = str(run / "base")
    config = LoraConfig(r=2, target_modules=r"language_model\..*\.(q_proj|up_proj)", modules_to_save=["visual_path"])
    peft_model = get_peft_model(model, config).eval()
    torch.manual_seed(5)
    with torch.no_grad():
        for name, value in peft_model.named_parameters():
            if "lora_B" in name or name.endswith("alpha"):
                value.normal_(std=0.5)
    peft_model.save_pretrained(run)
    processor.save_pretrained(run)
    (run / "optimizer.pt").write_bytes(b"\x80\x04")
    return run, outputs_of(peft_model, processor, article)


@pytest.fixture(scope="module")
def staged(full_run, tmp_path_factory):
    """A dry run with small shards."""
    folder = tmp_path_factory.mktemp("dry") / "staged"
    steps = []
    pushed = push_model(
        full_run[0], Target("someone/spectra"), dry_run=folder, max_shard_size="60KB", report=steps.append
    )
    return folder, pushed, steps


def read_shards(folder, pattern="*.safetensors"):
    return {name: value for file in sorted(folder.glob(pattern)) for name, value in load_file(file).items()}


def test_a_dry_run_holds_all_that_users_need_and_nothing_else(full_run, staged):
    folder, pushed, steps = staged
    shards = {path.name for path in folder.glob("*.safetensors")}
    assert len(shards) > 2 and all(re.fullmatch(r"model-\d{5}-of-\d{5}\.safetensors", name) for name in shards)
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*")} == CODE | shards | {
        "LICENSE",
        "README.md",
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "handler.py",
        "model.safetensors.index.json",
        "processor_config.json",
        "requirements.txt",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert pushed.files == {path.name: path.stat().st_size for path in folder.iterdir()}
    assert pushed.push is None and pushed.resume_files == RESUME_FILES
    assert pushed.left_out == ("checkpoint-2/", "notes.txt", "run.json")
    assert pushed.replaced == ("README.md", "modeling_spectra.py")
    # What a push would ask the Hub for is told when nobody answers.
    (note,) = pushed.notes
    assert "licences were not looked up" in note and "google/siglip-base-patch16-224: offline mode is on" in note
    config = json.loads((folder / "config.json").read_text())
    assert set(config["auto_map"]) == {"AutoConfig", "AutoModel", "AutoModelForImageTextToText", "AutoProcessor"}
    assert "multimodal-summarization" in config["custom_pipelines"]
    assert (folder / "LICENSE").read_bytes() == (PROJECT / "LICENSE").read_bytes()
    card = ModelCard.load(folder / "README.md")
    assert "spectra-sum" in card.data.tags and card.data.pipeline_tag == "image-text-to-text"
    assert "in a fresh process: AutoModel" in steps and "in a fresh process: handler" in steps


def test_nothing_staged_tells_of_this_machine(full_run, staged):
    saved = json.loads((full_run[0] / "config.json").read_text())
    # The source does: it says where its backbones lay.
    assert saved["text_config"]["_name_or_path"].startswith(str(full_run[0].parent))
    for path in staged[0].iterdir():
        data = path.read_bytes()
        for private in (str(full_run[0].parent), str(Path.cwd()), "_name_or_path", "local_files_only"):
            assert private.encode() not in data or path.suffix == ".py", (path.name, private)


def test_shards_hold_the_tensors_of_the_run(full_run, staged, article):
    source, found = load_file(full_run[0] / "model.safetensors"), read_shards(staged[0])
    assert source.keys() == found.keys()
    assert all(torch.equal(found[name], value) and found[name].dtype == value.dtype for name, value in source.items())
    model = SpectraSumForConditionalGeneration.from_pretrained(staged[0])
    processor = modeling_spectra.SpectraSumProcessor.from_pretrained(staged[0])
    assert outputs_of(model, processor, article) == full_run[1]


def test_a_changed_tensor_is_found(full_run, staged, tmp_path):
    folder, work = tmp_path / "staged", tmp_path / "work"
    shutil.copytree(staged[0], folder)
    work.mkdir()
    shard = next(path for path in sorted(folder.glob("*.safetensors")) if len(load_file(path)) > 1)
    tensors = load_file(shard)
    victim = sorted(tensors)[0]
    tensors[victim].view(-1)[-1] += 0.25
    save_file(tensors, shard, metadata={"format": "pt"})
    result = load_in_fresh_process(folder, make_sample(work), is_adapter=False, report=lambda step: None)
    expected = file_digests([full_run[0] / "model.safetensors"])
    with pytest.raises(HubError, match=f"'tensors': 1 of {len(expected)} tensors differ.*{re.escape(victim)}"):
        compare_loaded(result, expected, result)


def test_code_that_needs_the_project_is_found(staged, tmp_path):
    folder = tmp_path / "staged"
    shutil.copytree(staged[0], folder)
    file = folder / "modeling_spectra.py"
    file.write_text(file.read_text() + "\n__import__('spectra_sum')\n")
    (tmp_path / "work").mkdir()
    sample = make_sample(tmp_path / "work")
    with pytest.raises(HubError, match="failed at 'AutoModel': ModuleNotFoundError: spectra_sum is a package of the"):
        load_in_fresh_process(folder, sample, is_adapter=False, report=lambda step: None)


def test_a_process_that_is_killed_or_has_no_disk_says_so(staged, tmp_path, monkeypatch):
    folder = tmp_path / "staged"
    shutil.copytree(staged[0], folder)
    file = folder / "configuration_spectra.py"
    (tmp_path / "work").mkdir()
    sample = make_sample(tmp_path / "work")
    file.write_text("import os\nos.kill(os.getpid(), 9)\n")
    with pytest.raises(HubError, match="failed at 'AutoConfig': it was killed by SIGKILL, as .* memory runs out; "):
        load_in_fresh_process(folder, sample, is_adapter=False, report=lambda step: None)
    # As on a full disk, where not even the traceback can be written.
    file.write_text("import os\nos._exit(1)\n")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(HubError, match=r"exit code 1 and said nothing \(the disk of .* is full, 0.0 MB are free"):
        load_in_fresh_process(folder, sample, is_adapter=False, report=lambda step: None)


def test_staging_needs_room_for_more_than_the_weights(full_run, tmp_path, monkeypatch):
    usage, size = shutil.disk_usage(tmp_path), find_model_folder(full_run[0]).size
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=size + 1_000_000))
    with pytest.raises(HubError, match=r"staging needs \d+ MB and 2 MB are free; set TMPDIR"):
        push_model(full_run[0], Target("someone/x"), dry_run=tmp_path / "dry")


def set_values(values):
    def change(content):
        for path, value in values.items():
            place = content
            *parents, last = path.split(".")
            for parent in parents:
                place = place[parent]
            place[last] = value
        return content

    return change


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("config.json", set_values({"dtype": "float99"}), "AttributeError: .*float99"),
        ("config.json", set_values({"text_config.num_attention_heads": 0}), "ZeroDivisionError"),
        (
            "config.json",
            set_values({"vision_config.num_hidden_layers": -1}),
            "vision_config .* has no hidden state that can be read",
        ),
        ("processor_config.json", lambda content: [], "AttributeError"),
        ("config.json", set_values({"num_latents": "many"}), "'num_latents':? .*(int|many)"),
        ("config.json", set_values({"vision_config": None}), "lacks vision_config"),
    ],
)
def test_damaged_settings_are_one_clear_line(full_run, tmp_path, name, change, said):
    folder = tmp_path / "model"
    shutil.copytree(full_run[0], folder)
    (folder / name).write_text(json.dumps(change(json.loads((folder / name).read_text()))))
    with pytest.raises(ModelError, match=said) as error:
        load_model(str(folder))
    assert "\n" not in str(error.value) and str(error.value).startswith(str(folder))


@pytest.mark.parametrize("damaged", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("content", [b"{", b"[]"])
def test_a_damaged_base_on_the_hub_is_named(lora_run, tmp_path, monkeypatch, damaged, content):
    own = find_model_folder(lora_run[0] / "base")
    for name in ("config.json", "model.safetensors"):
        shutil.copy(own.path / name, tmp_path)
    (tmp_path / damaged).write_bytes(content)
    siblings = [{"rfilename": name} for name in ("config.json", "model.safetensors")]
    info = ModelInfo(id="someone/base", sha="a" * 40, siblings=siblings)
    monkeypatch.setattr(HfApi, "model_info", lambda *args, **options: info)
    monkeypatch.setattr("hub_upload.model.pushed_base.hf_hub_download", lambda repo, name, revision: tmp_path / name)
    with pytest.raises(HubError, match=r"--base someone/base: .* at aaaaaaaaaaaa is damaged; name another revision"):
        pin_base(parse_base("someone/base"), own)


def test_an_evaluation_is_known_by_the_weights_it_was_made_with(full_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(full_run[0], run)
    record = {"id": "a", "title": "Storm", "article": SENTENCES[0], "summary": SENTENCES[1], "gold_images": [0]}
    records = Dataset.from_list([{**record, "images": [picture(0), picture(1)]}])
    options = EvaluationOptions(
        "model", str(run), tmp_path / "evaluation", "run", "vrp", GenerationSettings(max_new_tokens=4, max_length=200)
    )
    assert evaluate_system(options, records, {"name": "x", "split": "test"})["weights"]
    facts = read_run_facts(run, [tmp_path / "evaluation"])
    assert facts.evaluations[0].same_weights
    tensors = load_file(run / "model.safetensors")
    tensors[sorted(tensors)[0]].view(-1)[0] += 1
    save_file(tensors, run / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(HubError, match="the evaluated weights are not those of this model"):
        read_run_facts(run, [tmp_path / "evaluation"])


def test_a_lora_run_needs_a_choice(lora_run, full_run, tmp_path, capsys):
    run = str(lora_run[0])
    dry = ["--repo-id", "someone/x", "--dry-run", str(tmp_path / "dry")]
    for arguments, said in (
        ([run, "--repo-id", "x", *dry[2:], "--merge"], "--repo-id x: this is no Hub id"),
        ([run, *dry, "--license", "Apache 2.0"], "--license 'Apache 2.0': this is no licence identifier"),
        ([run, *dry, "--license", "mit\nx: y"], "this is no licence identifier"),
        ([run, *dry], "choose --merge"),
        ([run, *dry, "--adapter"], f"spectra-sum push model {run}/base --repo-id"),
        ([run, *dry, "--adapter", "--base", "./base"], "--base ./base: this is no Hub id"),
        ([run, *dry, "--merge", "--base", "a/b"], "--base belongs to --adapter"),
        ([str(full_run[0]), *dry, "--merge"], "this is a whole model"),
    ):
        assert main(["push", "model", *arguments]) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert said in error, error
    assert not (tmp_path / "dry").exists()


def test_a_dry_run_of_an_adapter_needs_no_network(lora_run, tmp_path):
    run = shutil.copytree(lora_run[0], tmp_path / "run")
    (run / "base_quantization.json").write_text('{"load_in_4bit": true, "bnb_4bit_use_double_quant": false}')
    with pytest.warns(match="this adapter was trained on the language model in 4 bits"):
        pushed = push_model(
            run, Target("someone/adapter"), lora="adapter", base="someone/base@v1", dry_run=tmp_path / "dry"
        )
    assert set(pushed.files) == {
        "LICENSE",
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "article_arguments.py",
        "article_messages.py",
        "article_prompt.py",
        "base_quantization.json",
        "chat_template.jinja",
        "image_inputs.py",
        "image_texts.py",
        "processing_spectra.py",
        "processor_config.json",
        "prompt_options.py",
        "query_text.py",
        "rgb_images.py",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    settings = json.loads((tmp_path / "dry" / "adapter_config.json").read_text())
    assert (settings["base_model_name_or_path"], settings["revision"]) == ("someone/base", "v1")
    assert settings["modules_to_save"] == ["visual_path"]
    same = ("adapter_model.safetensors", "base_quantization.json", "tokenizer.json")
    assert all((tmp_path / "dry" / name).read_bytes() == (run / name).read_bytes() for name in same)
    assert pushed.notes == (
        "the base someone/base was not looked up in a dry run: the adapter names it with revision 'v1' as given.",
    )
    assert str(run) not in "".join(
        path.read_text() for path in (tmp_path / "dry").iterdir() if path.suffix != ".safetensors"
    )


def test_a_stranger_loads_a_pushed_model(hub, full_run, article, tmp_path):
    run, expected = full_run
    repo_id = hub.new_id("model")
    first = push_model(run, Target(repo_id))
    assert first.push.changed and {item.rfilename for item in hub.api.model_info(repo_id).siblings} >= set(first.files)
    (tmp_path / "cwd").mkdir()
    job = {"id": repo_id, "article": article, "adapter": False}
    found = run_script(STRANGER, job, hub.environment(tmp_path / "home"), tmp_path / "cwd")
    assert (found["tokens"], found["selected"]) == (expected["tokens"], expected["selected"])
    assert found["pipeline"]["summary_text"] == expected["summary"]
    assert [image["index"] for image in found["pipeline"]["selected_images"]] == expected["selected"]
    second = push_model(run, Target(repo_id))
    assert not second.push.changed and second.push.commit == first.push.commit


def test_adapter_and_merged_model_of_a_lora_run(hub, lora_run, full_run, article, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    run, expected = lora_run
    base_id, adapter_id, merged_id = (hub.new_id(name) for name in ("base", "adapter", "merged"))
    with pytest.raises(HubError, match="push the run's own base first: spectra-sum push model .*/run/base --repo-id "):
        push_model(run, Target(adapter_id), lora="adapter", base=base_id)
    base = push_model(run / "base", Target(base_id)).push
    adapter = push_model(run, Target(adapter_id), lora="adapter", base=base_id)
    assert adapter.notes == ()
    push_model(run, Target(merged_id), lora="merge")

    # The adapter stays with the commit that it was trained on, whatever becomes of its base.
    hub.api.upload_file(path_or_fileobj=b"{}", path_in_repo="config.json", repo_id=base_id)
    settings = hub.api.hf_hub_download(adapter_id, "adapter_config.json", cache_dir=tmp_path / "cache")
    settings = json.loads(Path(settings).read_text())
    assert (settings["base_model_name_or_path"], settings["revision"]) == (base_id, base.commit)
    environment = hub.environment(tmp_path / "home")
    (tmp_path / "cwd").mkdir()
    found = run_script(
        STRANGER, {"id": adapter_id, "article": article, "adapter": True}, environment, tmp_path / "cwd"
    )
    assert (found["tokens"], found["selected"]) == (expected["tokens"], expected["selected"])

    job = {"ids": [adapter_id, merged_id], "article": article}
    own = run_script(OWN, job, {**environment, "PYTHONPATH": os.fspath(PROJECT)}, tmp_path / "cwd", isolated=False)
    assert own[merged_id]["digests"] == own[adapter_id]["digests"]
    for repo_id in job["ids"]:
        assert own[repo_id]["tokens"] == expected["tokens"]
        assert own[repo_id]["module"] == "modeling_spectra.modeling_spectra"

    another = tmp_path / "another"
    shutil.copytree(run, another)
    shutil.copy(full_run[0] / "model.safetensors", another / "base" / "model.safetensors")
    tensors = load_file(another / "base" / "model.safetensors")
    tensors[sorted(tensors)[0]].view(-1)[0] += 1
    save_file(tensors, another / "base" / "model.safetensors", metadata={"format": "pt"})
    content = json.loads((another / "adapter_config.json").read_text())
    content["base_model_name_or_path"] = "moved away"
    (another / "adapter_config.json").write_text(json.dumps(content))
    with pytest.raises(HubError, match="its weights at .* are not those of"):
        push_model(another, Target(adapter_id), lora="adapter", base=f"{base_id}@{base.commit}")
    with pytest.raises(HubError, match="this is no SPeCTrA-Sum model"):
        push_model(run, Target(adapter_id), lora="adapter", base=adapter_id)


def test_a_failed_check_uploads_nothing(hub, full_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(full_run[0], run)
    settings = json.loads((run / "processor_config.json").read_text())
    settings["prompt_template"] = f"See {tmp_path}. {{title}} {{body}}"
    (run / "processor_config.json").write_text(json.dumps(settings))
    repo_id = hub.new_id("private")
    with pytest.raises(HubError, match="processor_config.json: would hold the path .*; nothing was uploaded"):
        push_model(run, Target(repo_id))
    assert not hub.api.repo_exists(repo_id)
