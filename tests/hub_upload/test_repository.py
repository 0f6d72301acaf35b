"""One atomic commit per push: what is on the Hub afterwards, what a broken push leaves, and what is refused."""

import functools
import http.server
import subprocess
import sys
import threading
from pathlib import Path

import huggingface_hub.constants
import pytest

from hub_upload.errors import HubError
from hub_upload.repository import Target, check_target, hub_errors, push_folder, write_dry_run
from tests.hub_upload.breakable_proxy import BreakableProxy

CARD = "---\ntags:\n- spectra-sum\n---\nA card.\n"
PUSH = """
import sys
from pathlib import Path
from hub_upload.repository import Target, push_folder
print(push_folder(Path(sys.argv[1]), Target(sys.argv[2]), "by a process"))
"""


@pytest.fixture
def folder(tmp_path):
    """A card, a file in a folder, and one that the Hub stores as a large file."""
    path = tmp_path / "folder"
    (path / "data").mkdir(parents=True)
    (path / "README.md").write_text(CARD)
    (path / "data" / "notes.txt").write_text("first")
    (path / "model.safetensors").write_bytes(bytes(range(256)) * 4000)
    return path


def contents(hub, repo_id, revision=None):
    """Name → content of all files but the server's own, each freshly downloaded."""
    names = set(hub.api.list_repo_files(repo_id, revision=revision)) - {".gitattributes"}
    url = huggingface_hub.hf_hub_url
    session = huggingface_hub.get_session()
    headers = huggingface_hub.utils.build_hf_headers()
    return {
        name: session.get(
            url(repo_id, name, revision=revision, endpoint=hub.api.endpoint), headers=headers, follow_redirects=True
        ).content
        for name in names
    }


def local(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def commits(hub, repo_id, revision=None):
    return [commit.commit_id for commit in hub.api.list_repo_commits(repo_id, revision=revision)]


def test_a_push_makes_the_repository_equal_to_the_folder_by_one_commit(hub, folder):
    target = Target(hub.new_id("folder"))
    check_target(target)
    first = push_folder(folder, target, "first")
    assert contents(hub, target.repo_id) == local(folder)
    after_first = commits(hub, target.repo_id)
    assert (first.changed, first.files, first.commit) == (True, 3, after_first[0])
    assert first.size == sum(map(len, local(folder).values()))

    (folder / "data" / "notes.txt").unlink()
    (folder / "new.txt").write_text("second")
    second = push_folder(folder, target, "second")
    assert contents(hub, target.repo_id) == local(folder)
    assert commits(hub, target.repo_id) == [second.commit, *after_first]


def test_an_identical_push_makes_no_commit(hub, folder):
    target = Target(hub.new_id("folder"))
    first = push_folder(folder, target, "first")
    before = commits(hub, target.repo_id)
    again = push_folder(folder, target, "again")
    assert commits(hub, target.repo_id) == before
    assert (again.changed, again.commit) == (False, first.commit)
    assert "nothing to change" in str(again)


def test_revisions_and_pull_requests_leave_the_main_branch(hub, folder):
    target = Target(hub.new_id("folder"))
    push_folder(folder, target, "first")
    main = commits(hub, target.repo_id)
    (folder / "new.txt").write_text("more")
    branch = push_folder(folder, Target(target.repo_id, revision="second-edition"), "branch")
    proposal = push_folder(folder, Target(target.repo_id, create_pr=True), "proposal")
    assert commits(hub, target.repo_id) == main
    assert commits(hub, target.repo_id, "second-edition")[0] == branch.commit
    assert contents(hub, target.repo_id, "second-edition") == local(folder)
    assert commits(hub, target.repo_id, "refs/pr/1")[0] == proposal.commit


@pytest.mark.parametrize(("stop_at", "uploaded"), [(b"PUT ", False), (b"/commit/", True)], ids=["upload", "commit"])
def test_a_killed_push_leaves_the_revision_and_the_next_one_finishes(hub, folder, tmp_path, stop_at, uploaded):
    target = Target(hub.new_id("folder"))
    push_folder(folder, target, "first")
    before, main = local(folder), commits(hub, target.repo_id)
    (folder / "model.safetensors").write_bytes(bytes(range(255)) * 5000)
    (folder / "data" / "notes.txt").write_text("second")
    arguments = [sys.executable, "-c", PUSH, str(folder), target.repo_id]

    with BreakableProxy(hub.api.endpoint, stop_at) as proxy:
        environment = hub.environment(tmp_path / "home", HF_ENDPOINT=proxy.endpoint)
        process = subprocess.Popen(arguments, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        reached = proxy.reached.wait(60)
        process.kill()
        process.wait()
    assert reached
    assert commits(hub, target.repo_id) == main
    assert contents(hub, target.repo_id) == before

    with BreakableProxy(hub.api.endpoint) as proxy:
        environment = hub.environment(tmp_path / "home", HF_ENDPOINT=proxy.endpoint)
        done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=60)
        uploads = [request for request in proxy.requests if request.startswith(b"PUT ")]
    assert done.returncode == 0, done.stderr
    assert contents(hub, target.repo_id) == local(folder)
    assert len(commits(hub, target.repo_id)) == len(main) + 1
    # What the killed push had uploaded is not uploaded again.
    assert len(uploads) == (0 if uploaded else 1)


def test_a_lost_connection_is_one_line_and_changes_nothing(hub, folder, monkeypatch):
    target = Target(hub.new_id("folder"))
    push_folder(folder, target, "first")
    main = commits(hub, target.repo_id)
    (folder / "data" / "notes.txt").write_text("second")
    with BreakableProxy(hub.api.endpoint, b"/commit/", cut=True) as proxy:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", proxy.endpoint)
        with pytest.raises(HubError, match=f"{target.repo_id}: the connection to the Hub failed") as caught:
            push_folder(folder, target, "second")
    assert "\n" not in str(caught.value)
    assert commits(hub, target.repo_id) == main


def test_a_wrong_token_is_one_line_without_the_token(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_wrongwrongwrong")
    with pytest.raises(HubError, match="the Hub refuses the token; set HF_TOKEN") as caught:
        check_target(Target("somebody/model"))
    assert "hf_wrong" not in str(caught.value)


def test_an_address_that_is_no_hub_is_named(hub, tmp_path, monkeypatch):
    page = tmp_path / "page.html"
    page.write_text("<html>hello</html>")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    monkeypatch.setattr(handler.func, "log_message", lambda *arguments: None)
    monkeypatch.setattr(handler.func, "translate_path", lambda self, path: str(page))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(HubError, match="what answers at HF_ENDPOINT is no Hub"):
            check_target(Target("a/b"))
        server.shutdown()


def test_the_repository_of_somebody_else_is_taken(hub, folder):
    target = Target(hub.new_id("other"))
    hub.api.create_repo(target.repo_id)
    # Made but empty, as after a push that was killed before its commit.
    check_target(target)
    hub.api.upload_file(path_or_fileobj=b"precious", path_in_repo="model.bin", repo_id=target.repo_id)
    for refuse in (lambda: check_target(target), lambda: push_folder(folder, target, "mine")):
        with pytest.raises(HubError, match=f"the model {target.repo_id} is taken"):
            refuse()
    assert contents(hub, target.repo_id) == {"model.bin": b"precious"}


def test_squashing_or_branching_makes_nobody_elses_files_ours(hub, folder):
    target = Target(hub.new_id("other"))
    hub.api.create_repo(target.repo_id)
    hub.api.create_branch(target.repo_id, branch="theirs")
    hub.api.upload_file(path_or_fileobj=b"x", path_in_repo="x.bin", repo_id=target.repo_id, revision="theirs")
    with pytest.raises(HubError, match="is taken"):
        push_folder(folder, Target(target.repo_id, revision="theirs"), "mine")
    hub.api.upload_file(path_or_fileobj=b"precious", path_in_repo="model.bin", repo_id=target.repo_id)
    hub.api.super_squash_history(target.repo_id)
    assert len(commits(hub, target.repo_id)) == 1
    for refuse in (lambda: check_target(target), lambda: push_folder(folder, target, "mine")):
        with pytest.raises(HubError, match="is taken"):
            refuse()
    assert contents(hub, target.repo_id) == {"model.bin": b"precious"}
    assert contents(hub, target.repo_id, "theirs") == {"x.bin": b"x"}


def test_a_tag_is_no_branch(hub, folder):
    target = Target(hub.new_id("folder"))
    push_folder(folder, target, "first")
    hub.api.create_tag(target.repo_id, tag="v1")
    with pytest.raises(HubError, match="--revision v1: this is a tag"):
        check_target(Target(target.repo_id, revision="v1"))


def test_a_lost_answer_leads_to_no_second_commit(hub, folder, monkeypatch):
    target = Target(hub.new_id("folder"))
    with BreakableProxy(hub.api.endpoint, b"/commit/", lose_answer=True) as proxy:
        with monkeypatch.context() as patch:
            patch.setattr(huggingface_hub.constants, "ENDPOINT", proxy.endpoint)
            with pytest.raises(HubError, match="nothing is uploaded or committed twice"):
                push_folder(folder, target, "first")
    made = commits(hub, target.repo_id)
    assert len(made) == 2
    assert not push_folder(folder, target, "first").changed
    assert commits(hub, target.repo_id) == made


def test_a_public_repository_is_not_taken_for_a_private_one(hub, folder):
    target = Target(hub.new_id("folder"))
    push_folder(folder, Target(target.repo_id, private=False), "public")
    main = commits(hub, target.repo_id)
    (folder / "secret.txt").write_text("secret")
    with pytest.raises(HubError, match="exists and is public, not private"):
        push_folder(folder, Target(target.repo_id, private=True), "private")
    assert commits(hub, target.repo_id) == main


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (Target("nothing"), "nothing: the namespace is missing"),
        (Target("a/b/c"), "a/b/c: this is no repository id"),
        (Target("a/b", revision="x", create_pr=True), "--create-pr opens its own branch"),
        (Target("a/b", revision=".."), "--revision ..: this is no name for a branch"),
        (Target("a/b", revision="0" * 40), "--revision 0+: this is no name for a branch"),
        (Target("a/b", revision="x.lock"), "--revision x.lock: this is no name for a branch"),
    ],
)
def test_bad_targets_are_refused(hub, target, message):
    with pytest.raises(HubError, match=message):
        check_target(target)


def test_offline_mode_is_named(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_any")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match="a/b: offline mode is on; unset HF_HUB_OFFLINE"):
        check_target(Target("a/b"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_named():
    with pytest.raises(HubError, match="a/b: the disk is full"):
        with hub_errors("a/b"):
            with open("/dev/full", "w") as file:
                file.write("x")


def test_a_dry_run_is_a_copy_in_an_empty_folder(folder, tmp_path, monkeypatch):
    write_dry_run(folder, tmp_path / "dry")
    assert local(tmp_path / "dry") == local(folder)
    with pytest.raises(HubError, match="exists and is no empty folder"):
        write_dry_run(folder, tmp_path / "dry")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    write_dry_run(folder, Path("."))
    assert local(tmp_path / "here") == local(folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dry", "folder", "here"]
    with pytest.raises(HubError, match="make it first"):
        write_dry_run(folder, tmp_path / "missing" / "dry")
