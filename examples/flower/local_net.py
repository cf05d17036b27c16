"""Start a SuperLink and some SuperNodes on this machine, until Ctrl-C.

    python local_net.py --nodes 4

Nothing is encrypted, and only this machine can reach it. Between machines use TLS and
node authentication, as docs/flower.md shows.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

HERE = Path(__file__).parent
_CONNECTION = """[superlink.net]
address = "127.0.0.1:{port}"
{security}
"""


class LocalNet:
    """The processes of a Flower network on this machine.

    Attributes:
      port: of the SuperLink.
      env: what every process of the network has in its environment.
      superlink: the process of the SuperLink.
      nodes: the processes of the SuperNodes, by name.
    """

    def __init__(
        self,
        port: int,
        logs: Path,
        home: Path | None = None,
        env: Mapping[str, str] | None = None,
        certificate: Path | None = None,
    ):
        """Prepare a network.

        Args:
          port: of the SuperLink.
          logs: folder for a log of every process.
          home: what Flower calls its home, made anew; default: that of this folder.
          env: to be added to the environment.
          certificate: of the authority that signed the SuperLink's; None: without TLS.
        """
        self.port, self._logs, self._certificate = port, logs, certificate
        if home is not None:
            home.mkdir(parents=True)
            security = "insecure = true"
            if certificate is not None:
                security = f'root-certificates = "{certificate}"'
            text = _CONNECTION.format(port=port, security=security)
            (home / "config.toml").write_text(text)
        folder = str(Path(sys.executable).parent)  # of the commands of flwr
        self._mark = f"{os.getpid()}-{time.monotonic_ns()}"
        self.env = {
            **os.environ,
            "PATH": folder + os.pathsep + os.environ["PATH"],
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            # Otherwise every run installs the app's dependencies anew.
            "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
            "FLWR_HOME": str(home or HERE / ".flwr"),
            "LOCAL_NET": self._mark,
            **(env or {}),
        }
        self.superlink: subprocess.Popen[bytes] | None = None
        self.nodes: dict[str, subprocess.Popen[bytes]] = {}

    def start_superlink(self, *flags: str, seconds: float = 60) -> None:
        """Start the SuperLink and wait until it answers.

        Raises:
          TimeoutError: if it does not.
        """
        address = ["--host", "127.0.0.1", "--port", str(self.port)]
        flags = flags or ("--insecure",)
        command = ["flower-superlink", *address, *flags]
        self.superlink = self._start("superlink", command)
        scheme, context = "http", None
        if self._certificate is not None:
            scheme = "https"
            context = ssl.create_default_context(cafile=str(self._certificate))
        url = f"{scheme}://127.0.0.1:{self.port}/health"
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with contextlib.suppress(OSError):
                with urllib.request.urlopen(url, timeout=1, context=context):
                    return
            time.sleep(0.2)
        raise TimeoutError(f"the SuperLink must answer at {url}, which it does not")

    def start_node(self, name: str, port: int, config: str, *flags: str) -> None:
        """Start a SuperNode.

        Args:
          name: of its log.
          port: of its own, for its client processes.
          config: its node config, such as ``partition-id=0 num-partitions=4``.
          *flags: others, such as its key.
        """
        superlink = f"127.0.0.1:{self.port}"
        command = ["flower-supernode", "--superlink", superlink, "--port", str(port)]
        command += ["--node-config", config, *flags]
        if self._certificate is None:
            command.append("--insecure")
        else:
            command += ["--root-certificates", str(self._certificate)]
        self.nodes[name] = self._start(name, command)

    def register(self, public_key: Path) -> None:
        """Let the node with a key join a SuperLink that asks for keys.

        Raises:
          subprocess.CalledProcessError: if the SuperLink refuses.
        """
        command = ["flwr", "supernode", "register", str(public_key), "net"]
        process = self._start("register", command)
        if process.wait():
            raise subprocess.CalledProcessError(process.returncode, command)

    def run_app(
        self, app: Path, config: Mapping[str, object]
    ) -> "subprocess.Popen[bytes]":
        """Start ``flwr run`` with a run config; it ends when the run ends."""
        words = " ".join(f"{name}={json.dumps(v)}" for name, v in config.items())
        command = ["flwr", "run", str(app), "net", "--stream", "--run-config", words]
        return self._start("run", command)

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """Kill a process and its children, as a power cut would."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def stop(self) -> None:
        """End all processes of the network."""
        started = [*self.nodes.values(), *filter(None, [self.superlink])]
        for process in started:
            process.terminate()
        end = time.monotonic() + 10
        for process in started:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, end - time.monotonic()))
        for process in started:
            self.kill(process)
        self.kill_rest()

    def kill_rest(self) -> None:
        """Kill what processes of the network have started and left."""
        for pid in self.find_rest():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _start(self, name: str, command: Sequence[str]) -> subprocess.Popen[bytes]:
        self._logs.mkdir(parents=True, exist_ok=True)
        program = shutil.which(command[0], path=self.env["PATH"])
        with (self._logs / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [program or command[0], *command[1:]],
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def find_rest(self) -> Iterator[int]:
        """Yield all processes of the network, by their environment (Linux only)."""
        mark = f"LOCAL_NET={self._mark}".encode()
        for environ in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if mark in environ.read_bytes().split(b"\0"):
                    yield int(environ.parent.name)


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens to."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def main() -> None:
    """Run the network until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--port", type=int, default=8000, help="of the SuperLink")
    parser.add_argument("--logs", type=Path, default=None)
    args = parser.parse_args()
    logs = args.logs or Path(tempfile.mkdtemp(prefix="local-net-"))
    net = LocalNet(args.port, logs)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: sys.exit(128 + number))
    try:
        net.start_superlink()
        for i in range(args.nodes):
            config = f"partition-id={i} num-partitions={args.nodes}"
            net.start_node(f"node-{i}", args.port + 100 + i, config)
        print(f"SuperLink on 127.0.0.1:{args.port} and {args.nodes} SuperNodes are up")
        print(f"logs: {logs}; Ctrl-C ends them", flush=True)
        while True:
            time.sleep(1)
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # a second one must not cut it short
        net.stop()


if __name__ == "__main__":
    main()
