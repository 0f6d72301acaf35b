"""A Python interpreter that has imported torch: processes of tests that need not wait for it again.

`sys.executable` names a small client while the fixture `preloaded_python` is used; what it is called with is run by a
process that is forked from a server which has imported what reads nothing of the environment. The libraries of
Hugging Face read it (HF_HOME, HF_ENDPOINT), so that each process imports them itself; the project's packages, too.

Run as a script, this file is the server: `python -I preloaded_python.py SOCKET`.
"""

import contextlib
import gc
import importlib
import json
import os
import runpy
import selectors
import shlex
import signal
import socket
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

IMPORTED = (
    *("torch", "torch._dynamo", "torch.distributed.tensor", "torch.distributed.fsdp", "torch.onnx"),
    # What bitsandbytes imports of torch, and peft with it.
    *("torch._inductor.compile_fx", "torch._dynamo.repro.after_dynamo", "functorch.compile"),
    *("scipy.stats", "pandas", "pyarrow.parquet", "PIL.ImageOps"),
)
# The shell, as the path of an interpreter may be too long for a script's first line.
LAUNCHER = """#!/bin/sh
exec {python} -IS {client} "$@"
"""
CLIENT = """
import json, os, signal, socket, sys
connection = socket.socket(socket.AF_UNIX)
connection.connect({address!r})
request = json.dumps(dict(arguments=sys.argv[1:], cwd=os.getcwd(), environment=dict(os.environ))).encode()
socket.send_fds(connection, [len(request).to_bytes(4, "big")], [0, 1, 2])
connection.sendall(request)


def answer():
    received = connection.recv(4)
    if len(received) < 4:
        sys.exit("the server of preloaded processes is gone")
    return int.from_bytes(received, "big", signed=True)


process = answer()
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, frame: os.kill(process, number))
code = answer()
if code < 0:
    if -code != signal.SIGKILL:
        signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
os._exit(code)
"""


class Server:
    """Forks a process for each request of a client, and tells the client its number and how it ended.

    Args:
        address: The path of the socket to make.
    """

    def __init__(self, address: str):
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(address)
        self.listener.listen()
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.listener, selectors.EVENT_READ, (self.accept, None))
        self.selector.register(0, selectors.EVENT_READ, (None, None))
        self.running: dict[int, tuple[int, socket.socket]] = {}

    def serve(self) -> dict | None:
        """Returns the request in each process that it forks, and None when standard input ends."""
        while True:
            for key, _ in self.selector.select():
                act, process = key.data
                if act is None:
                    return None
                if act == self.accept:
                    request = self.accept()
                    if request is not None:
                        return request
                # Both may be told at once of a process that is no more.
                elif process in self.running:
                    act(process)

    def accept(self) -> dict | None:
        """Returns the request in the process that is made for it."""
        connection, _ = self.listener.accept()
        header, streams, _, _ = socket.recv_fds(connection, 4, 3)
        length, request = int.from_bytes(header, "big"), b""
        while len(request) < length and (part := connection.recv(length - len(request))):
            request += part
        if len(header) < 4 or len(streams) < 3 or len(request) < length:
            # The client was killed before it had asked for anything.
            for file in streams:
                os.close(file)
            connection.close()
            return None
        process = os.fork()
        if process == 0:
            for stream, file in enumerate(streams):
                os.dup2(file, stream)
                os.close(file)
            self.selector.close()
            self.listener.close()
            connection.close()
            for ended, other in self.running.values():
                os.close(ended)
                other.close()
            return json.loads(request)
        for file in streams:
            os.close(file)
        # One that was killed meanwhile hangs up, which is seen below.
        with contextlib.suppress(OSError):
            connection.sendall(process.to_bytes(4, "big"))
        ended = os.pidfd_open(process)
        self.running[process] = ended, connection
        self.selector.register(ended, selectors.EVENT_READ, (self.answer, process))
        self.selector.register(connection, selectors.EVENT_READ, (self.kill, process))
        return None

    def kill(self, process: int) -> None:
        """A client that was killed takes its process with it."""
        self.selector.unregister(self.running[process][1])
        os.kill(process, signal.SIGKILL)

    def answer(self, process: int) -> None:
        """Tells the client how its process ended."""
        ended, connection = self.running.pop(process)
        _, status = os.waitpid(process, 0)
        self.selector.unregister(ended)
        os.close(ended)
        with contextlib.suppress(KeyError, OSError):
            self.selector.unregister(connection)
            connection.sendall(os.waitstatus_to_exitcode(status).to_bytes(4, "big", signed=True))
        connection.close()


def execute(request: dict) -> None:
    """What `python ARGUMENTS` does."""
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    arguments = request["arguments"]
    isolated = arguments[0] == "-I"
    arguments = arguments[isolated:]
    if not isolated:
        own = {"-c": "", "-m": os.getcwd()}.get(arguments[0], str(Path(arguments[0]).resolve().parent))
        sys.path[:0] = [own, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    gc.freeze()
    gc.enable()
    if arguments[0] == "-c":
        sys.argv = ["-c", *arguments[2:]]
        module = types.ModuleType("__main__")
        sys.modules["__main__"] = module
        exec(compile(arguments[1], "<string>", "exec"), module.__dict__)
    elif arguments[0] == "-m":
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = arguments
        runpy.run_path(arguments[0], run_name="__main__")


@contextlib.contextmanager
def start(folder: Path) -> Iterator[str]:
    """Yields the path of the client, while the server runs. Both are in the folder."""
    address, client, launcher = folder / "socket", folder / "client.py", folder / "python"
    client.write_text(CLIENT.format(address=str(address)))
    launcher.write_text(LAUNCHER.format(python=shlex.quote(sys.executable), client=shlex.quote(str(client))))
    launcher.chmod(0o700)
    command = [sys.executable, "-I", __file__, str(address)]
    with subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout.readline() == b"READY\n"
        yield str(launcher)
        server.stdin.close()


if __name__ == "__main__":
    gc.disable()
    for name in IMPORTED:
        importlib.import_module(name)
    server = Server(sys.argv[1])
    print("READY", flush=True)
    asked = server.serve()
    if asked is not None:
        execute(asked)
