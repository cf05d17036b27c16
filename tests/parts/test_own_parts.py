"""A part of one's own is one file and one line: it runs, is checked and explained."""

import json
from typing import NamedTuple

import pytest
from commands import run_script


class Own(NamedTuple):
    """A file that a user writes, and how it is run."""

    code: str
    flags: tuple[str, ...]
    setting: str
    bad: str  # a value that the annotation does not allow


OWN = {
    "staleness": Own(
        '''
from typing import Annotated
import jax.numpy as jnp
from fedasync_jax.mixing.staleness import STALENESS_FNS
from fedasync_jax.parts.bounds import above

def cut(at: Annotated[float, above(0)] = 9.0):
    """Return s(d) = 1 up to a staleness, then 1/4.

    Args:
      at: the staleness, in versions.
    """
    return lambda staleness: jnp.where(jnp.asarray(staleness) <= at, 1.0, 0.25)

STALENESS_FNS.register("cut", cut)
''',
        ("--methods", "fedasync-cut", "--cut-at", "3"),
        "cut_at",
        "0",
    ),
    "rule": Own(
        '''
from typing import Annotated
import jax, jax.numpy as jnp, numpy as np
from fedasync_jax import tree
from fedasync_jax.base import Mixer, MixInfo
from fedasync_jax.mixing.rules import RULES
from fedasync_jax.parts.bounds import above

def nudge(step: Annotated[float, above(0)] = 0.5) -> Mixer:
    """Return x <- x + step (x_new - x_tau).

    Args:
      step: factor on the change of the client.
    """
    return Mixer(lambda model: (), jax.tree_util.Partial(_update, np.float32(step)))

def _update(step, local, state, current, *, start, **others):
    step = jnp.asarray(step)
    mixed = tree.add_scaled(current, step, tree.sub(local, start))
    return mixed, state, MixInfo(alpha=step, applied=jnp.asarray(True))

RULES.register("nudge", nudge)
''',
        ("--methods", "nudge", "--nudge-step", "0.2"),
        "nudge_step",
        "-1",
    ),
    "law": Own(
        '''
from typing import Annotated
from fedasync_jax.fleet.laws import DELAY_LAWS
from fedasync_jax.parts.bounds import above

def weibull(k: Annotated[float, above(0)] = 1.0):
    """Return the Weibull law.

    Args:
      k: its shape.
    """
    return lambda rng, size: rng.weibull(k, size) + 1e-9

DELAY_LAWS.register("weibull", weibull)
''',
        ("--client-law", "weibull", "--client-k", "0.7", "--methods", "fedavg"),
        "client_k",
        "0",
    ),
    "partition": Own(
        '''
from typing import Annotated
import numpy as np
from fedasync_jax.data.partition.base import Partition
from fedasync_jax.data.partition.registry import PARTITIONS
from fedasync_jax.parts.bounds import FRACTION

def first_owns(
    num_samples: int,
    num_clients: int,
    *,
    share: Annotated[float, FRACTION] = 0.5,
    rng: np.random.Generator,
) -> Partition:
    """Deal a share to the first client, the rest evenly.

    Args:
      share: of the first client.
    """
    first = int(num_samples * share)
    rest = np.diff(np.linspace(first, num_samples, num_clients).astype(int))
    counts = np.concatenate([[first], rest])
    return Partition(rng.permutation(num_samples).astype(np.int32), counts)

PARTITIONS.register("first-owns", first_owns)
''',
        ("--partition", "first-owns", "--share", "0.4", "--methods", "fedavg"),
        "share",
        "1.5",
    ),
    "data set": Own(
        '''
from typing import Annotated
import numpy as np
from fedasync_jax.data.dataset import Dataset
from fedasync_jax.data.registry import DATASETS
from fedasync_jax.parts.bounds import at_least

def blobs(blob_samples: Annotated[int, at_least(40)] = 400) -> Dataset:
    """Return points around four centres.

    Args:
      blob_samples: their number.
    """
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, blob_samples).astype(np.int32)
    x = (np.eye(4)[y] + 0.1 * rng.normal(size=(blob_samples, 4))).astype(np.float32)
    return Dataset(x[20:], y[20:], x[:20], y[:20], num_classes=4)

DATASETS.register("blobs", blobs)
''',
        ("--dataset", "blobs", "--blob-samples", "300", "--methods", "fedavg"),
        "blob_samples",
        "39",
    ),
}
SMALL = (
    *("--num-updates", "20", "--eval-every", "10", "--hidden", "8"),
    *("--num-clients", "8", "--clients-per-round", "2", "--concurrency", "4"),
)


def train(folder, *arguments):
    return run_script("train.py", *arguments, cwd=folder)


@pytest.fixture(params=OWN, ids=lambda kind: kind.replace(" ", "_"))
def own(request, tmp_path):
    """Write the one file."""
    part = OWN[request.param]
    (tmp_path / "mine.py").write_text(part.code)
    return part


def test_it_is_one_file_and_one_line(own, tmp_path):
    assert [path.name for path in tmp_path.iterdir()] == ["mine.py"]
    assert own.code.count(".register(") == 1


def test_it_runs_from_the_command_line(own, tmp_path):
    own_flags = ("--load", "mine.py", *own.flags)
    done = train(tmp_path, *own_flags, *SMALL, "--run-dir", "run", "--check")
    assert done.returncode == 0, done.stderr
    assert "checked: " in done.stdout
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    value = own.flags[own.flags.index(f"--{own.setting.replace('_', '-')}") + 1]
    assert config["settings"][own.setting] == float(value)
    rows = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert len(rows) == 1 and rows[0]["gradients"] == 100
    if "nudge" in own.flags:
        assert rows[0]["method"] == "nudge(0.2)"


def test_its_settings_are_flags_that_are_explained_and_checked(own, tmp_path):
    flag = f"--{own.setting.replace('_', '-')}"
    shown = train(tmp_path, "--load", "mine.py", "--help").stdout
    assert flag in shown
    explained = " ".join(shown[shown.index(flag) :].split("  --")[0].split())
    assert "Only for " in explained and "(default: " in explained
    done = train(tmp_path, "--load", "mine.py", flag, own.bad)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {own.setting} must be ")
    assert done.stderr.count("\n") == 1
    unknown = train(tmp_path, flag, own.bad)  # without the file
    assert unknown.returncode == 2 and flag in unknown.stderr


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import no_such_module", "ModuleNotFoundError"),
        (
            "from fedasync_jax.mixing.staleness import STALENESS_FNS, hinge\n"
            "STALENESS_FNS.register('hinge', hinge)",
            "staleness must have a new name, got 'hinge' again",
        ),
        ("def broken(:", "SyntaxError"),
    ],
)
def test_a_file_that_does_not_load_is_one_line(tmp_path, code, words):
    (tmp_path / "mine.py").write_text(code)
    done = train(tmp_path, "--load", "mine.py")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: load must be Python files or modules that ")
    assert words in done.stderr


def test_a_file_that_is_not_there_is_one_line(tmp_path):
    done = train(tmp_path, "--load", "mine.py")
    assert done.returncode == 2 and "No such file" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_run_from_before_a_part_was_there_goes_on_with_it(tmp_path):
    (tmp_path / "mine.py").write_text(OWN["staleness"].code)
    few = ("--methods", "fedasync-constant", "--run-dir", "run")
    assert train(tmp_path, *few, *SMALL).returncode == 0
    again = train(tmp_path, "--load", "mine.py", "--resume", "run")
    assert again.returncode == 0, again.stderr
    other = train(tmp_path, "--load", "mine.py", "--resume", "run", "--cut-at", "4")
    assert other.returncode == 2
    assert other.stderr.startswith("error: cut_at must be 9.0 to go on with the run ")


def test_a_run_with_a_part_says_how_to_go_on_without_its_file(tmp_path):
    (tmp_path / "mine.py").write_text(OWN["staleness"].code)
    flags = ("--methods", "fedasync-cut", "--run-dir", "run")
    assert train(tmp_path, "--load", "mine.py", *flags, *SMALL).returncode == 0
    done = train(tmp_path, "--resume", "run")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "(of a part of your own? load it with --load)" in done.stderr
    again = train(tmp_path, "--load", "mine.py", "--resume", "run")
    assert again.returncode == 0, again.stderr
