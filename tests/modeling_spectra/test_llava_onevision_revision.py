"""`from_llava_onevision` from the Hub, at the revisions that are asked for."""

import json
import subprocess
import sys

import pytest
from safetensors.torch import load_file, save_file

from tests.tiny_llava_onevision import save_llava_onevision_folder, save_siglip_folder

pytestmark = pytest.mark.usefixtures("preloaded_python")

# Prints a weight of the language model, and one of the embedding tower, as the default revisions and given ones have them.
LOAD = """
import json, sys
from modeling_spectra import SpectraSumForConditionalGeneration

llava, siglip, revision, vision_revision = sys.argv[1:]
for options in ({}, {"revision": revision, "embedding_vision_revision": vision_revision}):
    model, _ = SpectraSumForConditionalGeneration.from_llava_onevision(
        llava, siglip, gate_layers=[1], num_latents=2, sampler_depth=1, dvp_num_layers=1, **options
    )
    language = model.language_model.model.norm.weight[0].item()
    print(json.dumps([language, model.embedding_tower.post_layernorm.weight[0].item()]))
"""


def test_both_revisions_are_kept_to(hub, tmp_path):
    siglip = save_siglip_folder(tmp_path / "siglip")
    llava = save_llava_onevision_folder(tmp_path, siglip)
    ids, first = {}, {}
    for name, folder in (("llava", llava), ("siglip", siglip)):
        ids[name] = hub.new_id(name)
        hub.api.create_repo(ids[name])
        first[name] = hub.api.upload_folder(repo_id=ids[name], folder_path=folder).oid
        weights = load_file(folder / "model.safetensors")
        (key,) = [key for key in weights if key.endswith(("model.norm.weight", "vision_model.post_layernorm.weight"))]
        save_file({**weights, key: weights[key] + 3}, folder / "model.safetensors", metadata={"format": "pt"})
        hub.api.upload_folder(repo_id=ids[name], folder_path=folder)
    command = [sys.executable, "-c", LOAD, ids["llava"], ids["siglip"], first["llava"], first["siglip"]]
    done = subprocess.run(command, env=hub.environment(tmp_path / "home"), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    # Both norms start at 1.
    assert [json.loads(line) for line in done.stdout.splitlines()] == [[4.0, 4.0], [1.0, 1.0]]
