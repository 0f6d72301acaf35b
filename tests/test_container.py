"""The container's files against what they stand on: packages, files, options and addresses. No image is built."""

import importlib.metadata
import re
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from spectra_sum.cli import main
from spectra_sum.serving.settings import Settings

ROOT = Path(__file__).parents[1]
DOCKERFILE = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))


def instructions(name: str) -> list[str]:
    return re.findall(rf"^{name} (.*)$", DOCKERFILE, re.MULTILINE)


def test_all_that_is_copied_is_there_and_no_more_is_sent():
    copied = {source.rstrip("/") for line in instructions("COPY") for source in line.split()[:-1]}
    assert copied and all((ROOT / source).exists() for source in copied)
    ignored = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert ignored[0] == "*" and {line[1:] for line in ignored if line.startswith("!")} == copied


def test_what_is_installed_is_what_the_project_declares():
    assert "'.[serve]'" in DOCKERFILE and "serve" in importlib.metadata.metadata("spectra-sum").get_all(
        "Provides-Extra"
    )
    installed = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "trainer", "benchmarks"}
    assert installed <= {source for line in instructions("COPY") for source in line.split()[:-1]}
    (parts,) = re.findall(r"pip install --no-deps -c constraints.txt (.*)$", DOCKERFILE, re.MULTILINE)
    makefile = re.sub(r"\\\n\s*", "", (ROOT / "Makefile").read_text(encoding="utf-8"))
    (same,) = re.findall(r"pip install .*--no-deps (.*)$", makefile, re.MULTILINE)
    assert parts.split() == same.split()
    pinned = {Requirement(line).name for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    assert {"torch", *parts.split()} <= pinned


def test_the_server_is_started_with_options_that_it_has(capsys):
    (line,) = instructions("ENTRYPOINT")
    command = yaml.safe_load(line)
    assert command[:2] == ["spectra-sum", "serve"]
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    known = capsys.readouterr().out
    assert all(f"{word} " in known for word in command if word.startswith("--"))
    assert command[command.index("--port") + 1] in instructions("EXPOSE")
    (health,) = instructions("HEALTHCHECK")
    assert f"127.0.0.1:{command[command.index('--port') + 1]}/health" in health


@pytest.mark.parametrize("name", ["cpu", "cuda"])
def test_a_service_has_no_rights_that_it_needs_not(name):
    service = COMPOSE["services"][name]
    (port,) = instructions("EXPOSE")
    assert service["ports"] == [f"127.0.0.1:8000:{port}"]
    assert service["read_only"] and service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert int(service["stop_grace_period"].removesuffix("s")) > Settings().timeout
    assert service["volumes"] == [f"models:{instructions('VOLUME')[0]}"] and "models" in COMPOSE["volumes"]
    arguments = {line.partition("=")[0] for line in instructions("ARG")}
    build = service["build"]
    assert set(build["args"] if isinstance(build, dict) else ()) <= arguments == {"BASE", "TORCH_INDEX"}


def test_the_server_does_not_run_as_root():
    users = instructions("USER")
    assert users == ["spectra"] and f"useradd --create-home --uid 10001 {users[0]}" in DOCKERFILE
    assert DOCKERFILE.index("USER spectra") < DOCKERFILE.index("ENTRYPOINT")
