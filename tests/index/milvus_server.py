"""A real Milvus server on this machine, for as long as a block lasts. Needs the packages of `make test-milvus`.

`python -m tests.index.milvus_server FOLDER COMMAND...` runs a command beside one, with its address in the environment,
and ends it afterwards.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SERVER = "CRICAVPR_TEST_MILVUS"  # the variable that holds host:port
START_S = 180  # unpacking takes a minute, once


@dataclass(frozen=True)
class Running:
    """One server.

    Attributes:
        at: host:port.
        pid: of its process.
        data: the folder of everything that it keeps.
    """

    at: str
    pid: int
    data: Path

    def rss_mb(self) -> float:
        """Memory of the process that is in RAM now."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024

    def disk_mb(self) -> float:
        return sum(path.stat().st_size for path in self.data.rglob("*") if path.is_file()) / 1e6


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Running]:
    """Start an empty server and stop it at the end. Its programs stay unpacked in `folder`; what it kept does not.

    One at a time on a machine: part of it has a fixed port.
    """
    from milvus import MilvusServer, MilvusServerConfig

    for old in ("data", "logs", "run"):
        shutil.rmtree(folder / old, ignore_errors=True)
    # Left to itself it takes 2380 when 2379 was used a minute ago, and then meets its own other part there.
    config = MilvusServerConfig(data_dir=str(folder.resolve()), proxy_port=_free_port(), etcd_port=_free_port())
    server = MilvusServer(config, wait_for_started=False)
    try:
        server.start()
        _wait(server.server_proc, f"http://127.0.0.1:{server.webservice_port}/healthz", folder)
        yield Running(f"{server.server_address}:{server.listen_port}", server.server_proc.pid, folder / "data")
    finally:
        _stop(server.server_proc)
        server.stop()


def _wait(process: subprocess.Popen[bytes], url: str, folder: Path) -> None:
    end = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < end:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
            if b"OK" in answer.read():
                return
        time.sleep(0.2)
    raise RuntimeError(f"Milvus did not start: see {folder / 'logs'}. Another one may be running on this machine.")


def _stop(process: subprocess.Popen[bytes] | None) -> None:
    """It is asked to end, and then made to: it may hang where it waits for its own parts."""
    if process is None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as asking:
        asking.bind(("127.0.0.1", 0))
        return int(asking.getsockname()[1])


def main(folder: str, *command: str) -> int:
    with running(Path(folder)) as server:
        print(f"Milvus answers at {server.at}", file=sys.stderr, flush=True)
        return subprocess.run(command, env={**os.environ, SERVER: server.at}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
