"""The nodes of a cluster, asked before they work: software, data, the driver's disk."""

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fedasync_jax.jobs.cluster import Cluster, import_ray
from fedasync_jax.jobs.versions import describe_versions

_ANSWER_IN = 120.0  # seconds; a node may have to start a process


class DriverPlace(NamedTuple):
    """Where the driver is, for the workers.

    Attributes:
      folder: its working directory, to which relative paths refer.
      token: a file that it has made; who sees it shares its disk.
    """

    folder: str
    token: str

    def enter(self) -> bool:
        """Go there if it is there; return whether the driver's disk is shared."""
        with contextlib.suppress(OSError):
            os.chdir(self.folder)
        return os.path.exists(self.token)


@contextlib.contextmanager
def mark_place(out: Path) -> Iterator[DriverPlace]:
    """Make the token in ``out``, and remove it.

    Raises:
      OSError: if nothing can be written there.
    """
    out.mkdir(parents=True, exist_ok=True)
    number, token = tempfile.mkstemp(prefix=".cluster-", dir=out.absolute())
    os.close(number)
    try:
        yield DriverPlace(os.getcwd(), token)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(token)


def check_nodes(
    cluster: Cluster,
    place: DriverPlace,
    paths: Iterable[Path],
    versions: Mapping[str, str] | None = None,
) -> list[str]:
    """Refuse a cluster of other software, or one that lacks data.

    Args:
      cluster: whose nodes are asked, all of those that have room for a task.
      place: of the driver.
      paths: what must be there on every node.
      versions: of the libraries, by name; default: those here.

    Raises:
      ValueError: in a line that names the node and what differs.

    Returns:
      The names of the nodes that do not share the driver's disk.
    """
    needed = [str(path) for path in paths]
    mine, apart = dict(versions or describe_versions()), []
    mine.pop("python", None)  # Ray compares it
    for name, found in _ask(cluster, _make_question(place, list(mine), needed)):
        theirs = found["versions"]
        for library, version in mine.items():
            if theirs[library] != version:
                raise ValueError(
                    f"{library} must be {version} on every node of the cluster, as "
                    f"here, got {theirs[library] or 'none'} on {name}"
                )
        for path in found["missing"]:
            raise ValueError(
                f"data must be on every node of the cluster, got {path}, which is not "
                f"there on {name}"
            )
        if not found["shares"]:
            apart.append(name)
    return apart


def _make_question(
    place: DriverPlace, libraries: list[str], needed: list[str]
) -> Callable[[], dict[str, Any]]:
    folder, token = place

    def answer() -> dict[str, Any]:
        # Ray sends what is defined in a function as it stands, so that this runs where
        # the package is not installed.
        import contextlib
        import importlib.metadata
        import os

        before = os.getcwd()
        with contextlib.suppress(OSError):
            os.chdir(folder)
        versions: dict[str, str | None] = dict.fromkeys(libraries)
        for library in libraries:
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                versions[library] = importlib.metadata.version(library)
        missing = [path for path in needed if not os.path.exists(path)]
        os.chdir(before)
        return {
            "versions": versions,
            "missing": missing,
            "shares": os.path.exists(token),
        }

    return answer


def _ask(
    cluster: Cluster, question: Callable[[], dict[str, Any]]
) -> Iterator[tuple[str, dict[str, Any]]]:
    ray = import_ray()
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(num_cpus=0, max_retries=2)(question)
    asked = [
        (
            name,
            task.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)
            ).remote(),
        )
        for node, name in cluster.list_nodes()
    ]
    for name, answer in asked:
        try:
            yield name, ray.get(answer, timeout=_ANSWER_IN)
        except ray.exceptions.RayError as error:
            raise ValueError(
                f"ray must be a cluster whose nodes run tasks, got {name} "
                f"({type(error).__name__})"
            ) from error
