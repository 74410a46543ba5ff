"""``aalbert`` and ``python -m`` as shell scripts call them, each in a fork of one process that has imported S3PRL.

Importing takes ten times as long as a tiny task. ``serve`` runs in a process of its own; the commands that it writes
send their arguments, working folder, environment and open files there.
"""

import gc
import json
import os
import runpy
import socket
import stat
import subprocess
import sys
import time
import traceback
from pathlib import Path

CLIENT = """#!{python} -SE
import array, json, os, socket, sys
request = json.dumps([os.path.basename(sys.argv[0]), sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
connection = socket.socket(socket.AF_UNIX)
connection.connect({address!r})
connection.sendmsg([b"f"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))])
connection.sendall(request)
connection.shutdown(socket.SHUT_WR)
sys.exit(int(connection.makefile().read()))
"""


def write_commands(folder: Path, address: Path) -> None:
    """Write ``aalbert`` and ``python`` into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("aalbert", "python"):
        path = folder / name
        path.write_text(CLIENT.format(python=sys.executable, address=str(address)))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)


class Commands:
    """A server and the folder of commands to put first in PATH.

    Args:
        folder: gets both.
        variables: of the server's environment, for what is read when packages are imported.
    """

    def __init__(self, folder: Path, **variables: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.bin, address = folder / "bin", folder / "server"
        write_commands(self.bin, address)
        self.log = (folder / "server.log").open("w")
        repository = Path(__file__).resolve().parents[2]
        path = os.pathsep.join([str(repository), os.environ.get("PYTHONPATH", "")])
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": path,
            "CUDA_VISIBLE_DEVICES": "",
            **variables,
        }
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", __file__, str(address)],
            env=environment,
            stdout=self.log,
            stderr=subprocess.STDOUT,
        )
        while not address.exists():
            assert self.process.poll() is None, (folder / "server.log").read_text()
            time.sleep(0.1)

    def run(self, *command: object, timeout: float = 600, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a shell command with these environment variables, and return its exit code and all that it printed."""
        path = f"{self.bin}{os.pathsep}{os.environ['PATH']}"
        environment = {**os.environ, "PYTHON": "python", **variables, "PATH": path}  # not that of `make PYTHON=...`
        return subprocess.run(
            list(map(str, command)),
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )

    def close(self) -> None:
        """End the server."""
        self.process.terminate()
        self.process.wait()
        self.log.close()


def serve(address: str) -> None:
    """Import what the commands need, then fork for each connection."""
    import torch

    from s3prl_aalbert import toolkit

    toolkit.activate()
    torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))]).step()  # imports torch._dynamo, for seconds
    from s3prl import run_downstream  # noqa: F401

    import s3prl_aalbert.cli
    import s3prl_aalbert.upstream.expert  # noqa: F401

    gc.freeze()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            _answer(connection)
        connection.close()


def _answer(connection: socket.socket) -> None:
    """In a fork: run the command in a further fork, wait for it and send its exit code."""
    _, files, _, _ = socket.recv_fds(connection, 1, 3)
    name, arguments, folder, environment = json.loads(connection.makefile().read())
    child = os.fork()
    if child == 0:
        for target, source in enumerate(files):
            os.dup2(source, target)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        _run(name, arguments)
    _, status = os.waitpid(child, 0)
    connection.sendall(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def _run(name: str, arguments: list[str]) -> None:
    """Run the command and leave without tearing down all that was imported, which would take seconds."""
    code = 1
    try:
        code = _call(name, arguments)
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _call(name: str, arguments: list[str]) -> int:
    from s3prl_aalbert.cli import main

    if name == "aalbert":
        return main(arguments)
    assert arguments[0] == "-m", arguments
    sys.argv = arguments[1:]
    runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    return 0


if __name__ == "__main__":
    serve(sys.argv[1])
