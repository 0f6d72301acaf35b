"""The interpreter that has imported torch: what is run by it ends, prints and dies as by a real one."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.usefixtures("preloaded_python")


def python(*arguments: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=60, **options)


def test_arguments_streams_and_environment_are_those_of_the_call(tmp_path):
    code = "import os, sys; print(sys.argv, os.getcwd(), os.environ['WORD'], sys.stdin.read()); print('no', file=sys.stderr)"
    done = python("-c", code, "a b", cwd=tmp_path, env={"WORD": "ship"}, input="said")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"['-c', 'a b'] {tmp_path} ship said\n", "no\n")


def test_paths_are_those_of_a_real_interpreter(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import sys; print(sys.path[0], 'torch' in sys.modules, 'transformers' in sys.modules, __name__)"
    )
    assert python(str(script)).stdout == f"{tmp_path} True False __main__\n"
    isolated = python("-I", "-c", "import sys; print(sys.path[0])", env={"PYTHONPATH": "/nowhere"})
    assert isolated.stdout == python("-I", "-c", "import sys; print(sys.path[0])").stdout != "/nowhere\n"
    module = python("-m", "json.tool", input="[1]")
    assert module.stdout.split() == ["[", "1", "]"]


def test_how_a_process_ends_is_told():
    assert python("-c", "raise SystemExit(3)").returncode == 3
    failed = python("-c", "raise ValueError('lost')")
    assert failed.returncode == 1 and failed.stderr.endswith("ValueError: lost\n")
    assert python("-c", "import os; os.kill(os.getpid(), 9)").returncode == -signal.SIGKILL


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_client_takes_its_process_with_it(number):
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as client:
        process = int(client.stdout.readline())
        client.send_signal(number)
        assert client.wait(timeout=30) == -number
    deadline = time.monotonic() + 30
    while Path(f"/proc/{process}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{process}").exists()


@pytest.mark.parametrize("begun", [b"", b"\0\0", (100).to_bytes(4, "big") + b"{"])
def test_a_client_that_leaves_early_stops_nobody_else(begun):
    address = str(Path(sys.executable).with_name("socket"))
    null = os.open(os.devnull, os.O_RDWR)
    with socket.socket(socket.AF_UNIX) as left:
        left.connect(address)
        if begun:
            socket.send_fds(left, [begun], [null, null, null])
    os.close(null)
    assert python("-c", "raise SystemExit(3)").returncode == 3
