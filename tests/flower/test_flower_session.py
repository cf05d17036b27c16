"""What a server keeps, what it goes back to, and how it ends when the network hangs."""

import json
import logging
import threading
from typing import Any

import numpy as np
import pytest

pytest.importorskip("flwr")

from flower_grid import Grid, good, make_model, replay
from flwr.app import Error, Message

from fedasync_jax.flower.adapter import NodeNetwork
from fedasync_jax.flower.server_app import run_server
from fedasync_jax.flower.session import Problem, _as_state
from fedasync_jax.flower.settings import read_settings
from fedasync_jax.flower.updater import Newest
from fedasync_jax.flower.watchdog import NetworkHangs
from fedasync_jax.parts.folder_names import slugify
from fedasync_jax.storage import read_run
from fedasync_jax.storage.checkpoints import Checkpoints
from fedasync_jax.storage.models import load_model

METHOD = "FedAsync constant"


def serve(grid, path, num_updates, evaluate=None, **config):
    settings = read_settings(
        {
            "run-dir": str(path),
            "num-updates": num_updates,
            "eval-every": 5,
            "checkpoint-every": 5,
            "method": "fedasync-constant",
            "alpha": 0.5,
            "poll-seconds": 0.002,
            **config,
        }
    )
    network = NodeNetwork(grid)
    evaluate = evaluate or (lambda variables: {"loss": np.float32(1)})
    problem = Problem(make_model(), evaluate)  # pyright: ignore[reportArgumentType]
    run_server(network, settings, problem)


@pytest.fixture
def log():
    """Yield the lines of Flower's log."""
    lines = []

    class Keep(logging.Handler):
        def emit(self, record):
            lines.append(record.getMessage())

    handler = Keep()
    logger = logging.getLogger("flwr")
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)


def checkpoints(path, **more):
    folder = path / slugify(METHOD) / "checkpoints"
    return Checkpoints(folder, every=5, **more)


# Going back


def explode_above(level):
    """Return: the loss is 1, and 100 of a model whose numbers are above a level."""

    def evaluate(variables):
        return {"loss": np.where(variables.params["w"].mean() > level, 100.0, 1.0)}

    return evaluate


def test_a_model_that_explodes_is_undone_and_the_run_is_as_if_it_never_was(
    tmp_path, log
):
    grid, explode = Grid({5: good, 6: good}), explode_above(4.0)
    serve(grid, tmp_path, 20, explode, **{"max-undos": 2})
    lines = [line for line in log if "exploded" in line]
    assert len(lines) == 2 and "loss 100 at version 15; going back to" in lines[0]
    assert "nodes 5 (" in lines[0] or "nodes 6 (" in lines[0]
    updates, lost = (
        read(tmp_path, METHOD) for read in (read_run.read_updates, read_run.read_lost)
    )
    assert updates is not None and lost is not None
    assert len(updates["task"]) == len(set(updates["task"])) == 20
    assert (lost["cause"] == "undone").sum() >= 10
    assert not set(lost["task"][lost["cause"] == "undone"]) & set(updates["task"])
    model = load_model(tmp_path / slugify(METHOD) / "model", make_model())
    np.testing.assert_allclose(model.params["w"], replay(updates), rtol=1e-6)
    rows = read_run.read_metrics(tmp_path)[METHOD]
    assert [row["version"] for row in rows] == [0, 5, 10, 15, 20]
    assert rows[-1]["causes"]["undone"] == (lost["cause"] == "undone").sum()


def test_what_lay_in_a_buffer_at_an_evaluation_is_named_and_undone(tmp_path, log):
    """The ninth model lies in the buffer at version 9, which is good, and not at 8."""

    def far_once(message, place):
        reply = good(message, place)
        if len(grid.asked) == 9:
            array: Any = next(iter(reply.content["model"].values()))
            array.data = array.data[:-12] + np.full(3, 1e5, np.float32).tobytes()
        return reply

    config = {"method": "fedbuff:size=4", "eval-every": 3, "checkpoint-every": 3}
    config |= {"clip-norm-ratio": 1e9, "max-norm-ratio": 1e9, "max-in-flight": 1}
    grid = Grid({5: far_once, 6: far_once})
    serve(grid, tmp_path, 24, explode_above(1e3), **config)
    (line,) = [line for line in log if "exploded" in line]
    assert "at version 12; going back to version 8;" in line
    assert f"{grid.asked[8]} (" in line.partition("the nodes")[2]
    serve(Grid({5: good}), tmp_path, 30, explode_above(1e3), **config)  # it is whole
    rows = read_run.read_metrics(tmp_path)
    ((name, rows),) = rows.items()
    assert [row["version"] for row in rows] == list(range(0, 31, 3))
    updates = read_run.read_updates(tmp_path, name)
    assert updates is not None
    tasks = updates["task"].tolist()
    assert tasks[:8] == list(range(8)) and min(tasks[8:]) >= 12
    assert len(set(tasks)) == 30


def test_what_explodes_is_never_saved(tmp_path):
    """Also where a version is saved that no line is written of."""
    seen = []

    def evaluate(variables):
        level = float(variables.params["w"].mean())
        seen.append(level)
        return {"loss": np.where(level > 2.0, np.nan, 1.0)}

    def end(message, place):
        return ConnectionError("gone") if place == 40 else good(message, place)

    with pytest.raises(ConnectionError):
        config = {"eval-every": 100, "checkpoint-every": 2, "max-undos": 1000}
        serve(Grid({5: end}), tmp_path, 100, evaluate, **config)
    state = _as_state(Newest(0, make_model(), ()))
    found = checkpoints(tmp_path).restore(state)
    assert found is not None and max(seen) > 2.0
    assert found[0].state.variables.params["w"].mean() <= 2.0


def test_a_new_server_knows_what_the_model_had_learned(tmp_path, log):
    """A loss of 1.5 is no explosion after 1, but is one after 1 and 0.4."""

    def evaluate(variables):
        level = variables.params["w"].mean()
        return {"loss": np.select([level <= 0, level < 6], [1.0, 0.4], 1.5)}

    serve(Grid({5: good}), tmp_path, 10, evaluate)
    assert "exploded" not in "\n".join(log)
    serve(Grid({5: good}), tmp_path, 30, evaluate, **{"max-undos": 1})
    assert "loss 1.5 at version 15; going back to version 10" in "\n".join(log)


# What is kept


def test_checkpoints_have_no_arrivals_in_them(tmp_path):
    serve(Grid({5: good}), tmp_path, 20)
    folder = checkpoints(tmp_path).folder
    with checkpoints(tmp_path) as saved:
        found = saved.restore(_as_state(Newest(0, make_model(), ())))
    assert found is not None
    books = found[1]["coordinator"]
    assert found[1].keys() == {"coordinator", "ledgers", "rows", "seconds"}
    assert books.keys() == {"next_number", "nodes", "counts"}
    assert found[1]["ledgers"][0]["rows"] == 20
    assert len((folder / "arrivals.jsonl").read_text().splitlines()) == 20


def test_rows_that_no_checkpoint_knows_of_are_cut_off(tmp_path):
    serve(Grid({5: good}), tmp_path, 10)
    ledger = checkpoints(tmp_path).folder / "arrivals.jsonl"
    with ledger.open("a") as file:
        file.write('["of a time that was never saved"]\n')
    serve(Grid({5: good}), tmp_path, 20)
    updates = read_run.read_updates(tmp_path, METHOD)
    assert updates is not None and len(updates["task"]) == 20
    assert len(ledger.read_text().splitlines()) == 20


@pytest.mark.parametrize("harm", ["edit", "remove"])
def test_damaged_arrivals_are_refused_in_one_line(tmp_path, harm):
    serve(Grid({5: good}), tmp_path, 10)
    ledger = checkpoints(tmp_path).folder / "arrivals.jsonl"
    if harm == "edit":
        ledger.write_text(ledger.read_text().replace("0.5", "0.6"))
    else:
        ledger.unlink()
    with pytest.raises(ValueError, match=r"arrivals\.jsonl must be") as caught:
        serve(Grid({5: good}), tmp_path, 20)
    assert "\n" not in str(caught.value)


def test_checkpoints_of_before_with_all_arrivals_in_them_are_read(tmp_path):
    serve(Grid({5: good}), tmp_path, 10)
    state = _as_state(Newest(0, make_model(), ()))
    with checkpoints(tmp_path) as saved:
        found = saved.restore(state)
        assert found is not None
        snapshot, extra = found
        folder = saved.folder
        rows = (folder / "arrivals.jsonl").read_text().splitlines()
        extra["arrivals"] = [json.loads(row)[:-1] for row in rows]  # without scale
        extra["coordinator"]["nodes"] = [[5, 0]]
        lost = (folder / "lost.jsonl").read_text().splitlines()
        extra["coordinator"]["lost"] = [json.loads(row) for row in lost]
        del extra["ledgers"]
        (folder / "arrivals.jsonl").unlink()
        (folder / "lost.jsonl").unlink()
        saved.save(snapshot, extra)
    serve(Grid({5: good}), tmp_path, 20)
    updates = read_run.read_updates(tmp_path, METHOD)
    assert updates is not None and len(set(updates["task"].tolist())) == 20
    assert (updates["scale"] == 1).all()


# A network that hangs


class HangingGrid(Grid):
    """Does not return from a call, from some reply on."""

    def __init__(self, replies, call, after):
        super().__init__(replies)
        self.call, self.after = call, after
        self.forever = threading.Event()

    def _maybe_hang(self, call):
        if call == self.call and len(self.asked) >= self.after:
            self.forever.wait()

    def get_nodes(self):
        self._maybe_hang("nodes")
        return super().get_nodes()

    def push_messages(self, messages):
        self._maybe_hang("push")
        return super().push_messages(messages)

    def pull_messages(self, names):
        self._maybe_hang("pull")
        return super().pull_messages(names)


@pytest.mark.parametrize("call", ["nodes", "push", "pull"])
def test_a_call_that_hangs_ends_the_server_which_goes_on_later(tmp_path, call, log):
    grid = HangingGrid({5: good}, call, after=8)
    config = {"hang-seconds": 0.2, "checkpoint-every": 1000}
    ended = []

    def target():
        try:
            serve(grid, tmp_path, 20, **config)
        except NetworkHangs as error:
            ended.append(error)

    server = threading.Thread(target=target, daemon=True)
    server.start()
    server.join(30)
    assert ended and "must answer within 0.2 s" in str(ended[0])
    (line,) = [line for line in log if line.startswith("the run ends")]
    assert "hang-seconds" in line
    (saved,) = [line for line in log if "is saved" in line]
    version = int(saved.split()[1])
    assert version >= 6
    serve(Grid({5: good}), tmp_path, 20, **config)  # the lock is free
    assert f"resuming from version {version}; lost tasks" in "\n".join(log)
    updates = read_run.read_updates(tmp_path, METHOD)
    assert updates is not None and len(set(updates["task"].tolist())) == 20
    grid.forever.set()


def test_what_a_call_raises_or_returns_is_passed_on():
    class Odd(Grid):
        def get_nodes(self):
            raise KeyError("odd")

    network = NodeNetwork(Odd({}))  # pyright: ignore[reportArgumentType]
    network.limit_calls(5.0)
    with pytest.raises(KeyError, match="odd"):
        network.nodes()
    network = NodeNetwork(Grid({7: good}))  # pyright: ignore[reportArgumentType]
    network.limit_calls(5.0)
    assert network.nodes() == {7: ""}


# The log


def test_what_a_node_says_cannot_forge_the_log(tmp_path, log):
    evil = "\x1b[2Jfine\r\nversion 20/20 at 3 s\u202e"

    def fail(message, place):
        return Message(Error(2, evil), reply_to=message)

    config = {"back-off": 0.01, "max-back-off": 0.01}
    serve(Grid({5: good, 6: fail}), tmp_path, 20, **config)
    told = [line for line in log if "client error" in line and "is lost" in line]
    assert told and all(line.isprintable() for line in log)
    assert "\\x1b[2Jfine" in told[0]
