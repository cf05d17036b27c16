"""One run of the server in its run folder: it goes on, evaluates, saves and ends.

A checkpoint holds the model and the state of the books. Arrivals and lost tasks only
ever become more, so they are in files beside it, see ``ledger``. A model is saved only
if it has not exploded: whatever the server goes on from is good.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from fedasync_jax.base import Array, Variables
from fedasync_jax.engine.history import Past, Updates
from fedasync_jax.engine.state import RunState, Snapshot
from fedasync_jax.flower import record
from fedasync_jax.flower.adapter import NodeNetwork
from fedasync_jax.flower.coordinator import Coordinator
from fedasync_jax.flower.explosion import Explosions
from fedasync_jax.flower.ledger import Ledger
from fedasync_jax.flower.server import Server
from fedasync_jax.flower.settings import NetworkSettings, rule_of
from fedasync_jax.flower.tasks import LostTask, Task
from fedasync_jax.flower.updater import Newest, Updater
from fedasync_jax.jobs.metrics import score
from fedasync_jax.storage.checkpoints import Checkpoints
from fedasync_jax.storage.models import save_model
from fedasync_jax.storage.run_folder import RunFolder

_TIMELINES = 30  # clients


class Problem(NamedTuple):
    """What the server needs to know of what is learned.

    Attributes:
      variables: x_0.
      evaluate: metrics of a model, as ``evaluation.make_evaluate`` gives them.
      is_text: whether it is a language model, judged by its perplexity.
    """

    variables: Variables
    evaluate: Callable[[Variables], dict[str, Array]]
    is_text: bool = False


class ServerSession:
    """One run of the server, from its newest checkpoint on.

    Attributes:
      server: Scheduler and Updater.
    """

    def __init__(
        self,
        network: NodeNetwork,
        run: NetworkSettings,
        problem: Problem,
        folder: RunFolder,
        saved: Checkpoints,
    ):
        """Connect the parts; nothing is read or written yet."""
        rule = rule_of(run.settings)
        self._name, self._network, self._settings = rule.name, network, run.settings
        self._evaluated = rule.mixer.evaluated
        self._problem, self._folder, self._saved = problem, folder, saved
        self._rows: list[dict[str, Any]] = []
        self._begin = time.monotonic()
        self._ledgers = [
            Ledger(saved.folder / f"{name}.jsonl") for name in ("arrivals", "lost")
        ]
        self.server = Server(
            network,
            Coordinator(run.limits, run.settings.make_rng("schedule")),
            Updater(rule.mixer, problem.variables),
            run.limits,
            self._seconds,
        )
        newest = self.server.updater.newest
        self._explosions = Explosions(run.limits.max_undos, newest)
        self._saved_version = -1

    def _seconds(self) -> float:
        """Return the seconds of the run so far."""
        return time.monotonic() - self._begin

    def go_on(self) -> None:
        """Take over the newest checkpoint, if there is one.

        Raises:
          ValueError: if the checkpoints, or the files beside them, are damaged.
        """
        server, tell = self.server, self._network.tell
        tell(f"{self._name}, run folder {self._folder.path.absolute()}")
        for note in self._folder.notes:
            tell(note)
        found = self._saved.restore(_as_state(server.updater.newest))
        if found is None:
            self._add_row(self._evaluate())
            return
        (state, _), extra = found
        newest = Newest(state.version, state.variables, state.mixer_state)
        arrivals, lost = self._read_ledgers(extra)
        server.restore(newest, arrivals, lost, extra["coordinator"])
        self._begin -= extra["seconds"]
        for row in extra["rows"]:
            self._add_row(row)
        self._explosions.good, self._saved_version = newest, newest.version
        tell(f"resuming from version {state.version}; lost tasks are given out again")

    def _read_ledgers(
        self, extra: dict[str, Any]
    ) -> tuple[list[record.Arrival], list[LostTask]]:
        if "ledgers" in extra:
            kept = zip(self._ledgers, extra["ledgers"], strict=True)
            arrivals, lost = [ledger.read(known) for ledger, known in kept]
        else:  # a checkpoint of before holds all
            arrivals, lost = extra["arrivals"], extra["coordinator"]["lost"]
        return (
            [record.Arrival(*row) for row in arrivals],
            [LostTask(Task(*row[:-2]), row[-2], row[-1]) for row in lost],
        )

    def note_update(self) -> None:
        """Evaluate and save, where due; go back if the model has exploded."""
        version, settings = self.server.updater.newest.version, self._settings.run
        is_last = version == settings.num_updates
        is_shown = is_last or version % settings.eval_every == 0
        is_saved = is_last or version % settings.checkpoint_every == 0
        if not (is_shown or is_saved):
            return
        row = self._evaluate()
        if not self._is_good(row):
            return
        if is_shown and version > self._rows[-1]["version"]:
            self._add_row(row)
            self._network.tell(_describe_row(row, settings.num_updates))
        if is_saved:
            self._save()

    def save_last(self) -> None:
        """Save where a run stands that cannot go on now."""
        version = self.server.updater.newest.version
        if version > self._saved_version and len(self.server.arrivals) == version:
            self._is_good(self._evaluate())  # or it goes back
            self._save()
        self._saved.wait()
        version = self.server.updater.newest.version
        self._network.tell(f"version {version} is saved; the same run resumes from it")

    def _evaluate(self) -> dict[str, Any]:
        """Return the line of the newest model."""
        newest, server = self.server.updater.newest, self.server
        before = self._rows[-1]["version"] if self._rows else 0
        return record.make_row(
            self._name,
            newest.version,
            jax.device_get(self._problem.evaluate(self._judged())),
            server.arrivals,
            *server.books(),
            newest.version - before,
            is_text=self._problem.is_text,
        )

    def _judged(self) -> Variables:
        """Return the model that the rule is judged by, which is exported."""
        newest = self.server.updater.newest
        return self._evaluated(newest.variables, newest.mixer_state)

    def _is_good(self, row: dict[str, Any]) -> bool:
        """Return whether a model has not exploded; if it has, go back."""
        watch, updater = self._explosions, self.server.updater
        loss = row["test_loss"] if row["test_loss"] is not None else np.nan
        if not watch.num_left or not watch.is_exploded(loss):
            watch.good = updater.settled
            watch.note_loss(loss)
            return True
        watch.num_left -= 1
        version = updater.newest.version
        nodes = self.server.go_back(watch.good)
        self._ledgers[
            0
        ].begin_anew()  # a buffered rule may go back behind what it saved
        mixed = ", ".join(f"{node} ({n})" for node, n in nodes.most_common())
        self._network.tell(
            f"the model has exploded: loss {loss:.3g} at version {version}; "
            f"going back to version {watch.good.version}; models mixed since came from "
            f"the nodes {mixed}; returns left: {watch.num_left}",
            warn=True,
        )
        return False

    def _add_row(self, row: dict[str, Any]) -> None:
        """Keep and write a line of metrics."""
        self._explosions.note_loss(row["test_loss"])
        self._rows.append(row)
        self._folder.add_metrics(row)

    def _save(self) -> None:
        """Write a checkpoint, in the background."""
        server = self.server
        columns = record.arrival_columns(server.arrivals, Updates._fields)
        updates = Updates(**columns)
        state = _as_state(server.updater.newest)
        lost = [[*row.task, row.end_time, row.cause] for row in server.books()[0]]
        arrivals_file, lost_file = self._ledgers
        extra = {  # copies: it is written while the run goes on
            "ledgers": [arrivals_file.write(server.arrivals), lost_file.write(lost)],
            "coordinator": server.to_json(),
            "rows": list(self._rows),
            "seconds": self._seconds(),
        }
        snapshot = Snapshot(state, Past(updates, []))
        self._saved.save(snapshot, extra, score=score(self._rows[-1]))
        self._saved_version = state.version

    def finish(self) -> None:
        """Write the results."""
        self._saved.wait()
        arrivals, books = self.server.arrivals, self.server.coordinator
        lost = books.lost
        self._folder.write_method(
            self._name,
            updates=record.arrival_columns(arrivals),
            lost=record.lost_columns(lost),
            timeline=record.timeline_columns(arrivals, lost, _TIMELINES),
        )
        newest, row = self.server.updater.newest, self._rows[-1]
        about = {"method": self._name, "version": newest.version, "metrics": row}
        save_model(self._folder.model_folder(self._name), self._judged(), about)
        self._folder.write_arrays(
            "clients.npz", record.client_columns(arrivals, books.nodes)
        )
        self._folder.write_summary([{**row, "wall_seconds": row["virtual_time"]}])


def _as_state(newest: Newest) -> RunState:
    """Return the state as checkpoints know it; tasks in flight are not kept."""
    no_slots = np.zeros((1, 1), np.float32)
    return RunState(newest.version, newest.variables, no_slots, newest.mixer_state)


def _describe_row(row: dict[str, Any], num_updates: int) -> str:
    parts = [f"version {row['version']}/{num_updates} at {row['virtual_time']:.0f} s"]
    if row["test_accuracy"] is not None:
        parts.append(f"accuracy {row['test_accuracy']:.1%}")
    if row["test_loss"] is not None:
        parts.append(f"loss {row['test_loss']:.3f}")
    if row["mean_staleness"] is not None:
        parts.append(f"d {row['mean_staleness']:.1f}")
    parts += [f"{count} {cause}" for cause, count in row["causes"].items()]
    return ", ".join(parts)
