"""What the server says of its nodes, a line each in the log of the run."""

from fedasync_jax.flower.adapter import NodeNetwork
from fedasync_jax.flower.tasks import SILENT, Task


class ServerLog:
    """Writes the lines."""

    def __init__(self, network: NodeNetwork):
        """Write to the log of a network."""
        self._network = network

    def lose(self, task: Task, cause: str, detail: str) -> None:
        """Say that a task is lost."""
        self._warn(
            f"task {task.number} of node {task.node} is lost: {cause} ({detail})"
        )

    def miss(self, task: Task, seconds: float, in_a_row: int) -> None:
        """Say that a task was left unanswered, and how many in a row were."""
        row = f", {in_a_row} in a row" if in_a_row > 1 else ""
        self.lose(task, SILENT, f"no answer for {seconds:.0f} s{row}")

    def ban(self, node: int) -> None:
        """Say that a node is banned."""
        self._warn(f"node {node} gets no more tasks")

    def recognize(self, node: int, first: int) -> None:
        """Say that a node is one that was there under another number."""
        self._warn(f"node {node} has the key of node {first}: it is that node")

    def wait(self, num_nodes: int, num_banned: int) -> None:
        """Say that no node is ready."""
        self._warn(
            f"waiting for a node: {num_nodes} connected, {num_banned} banned, "
            f"{num_nodes - num_banned} paused"
        )

    def _warn(self, line: str) -> None:
        self._network.tell(line, warn=True)
