"""What the server knows of one node."""

import dataclasses

# What survives the server, in the order in which it is saved.
KEPT = (
    "bad",
    "answers",
    "silences",
    "forgivable",
    "last_seconds",
    "usual_seconds",
    "key",
    "undone",
)


@dataclasses.dataclass
class NodeRecord:
    """What is known of a node; what ``KEPT`` names survives the server.

    Attributes:
      client: its number, from 0 in the order in which nodes were first seen.
      bad: bad replies of its whole life, and silences that count as such.
      answers: good replies of its whole life.
      silences: tasks in a row that it left unanswered.
      forgivable: of ``bad``, those for silence.
      last_seconds: that its newest answered task took; 0 if it never answered.
      usual_seconds: the same of its newest task that ended in everybody's time.
      faults: in a row.
      ready_at: when it may be asked again, seconds.
      in_flight: tasks that it has.
      key: fingerprint of its public key; "" if it is not known.
      undone: how often its models were among those mixed before an explosion.
      undone_at: when that was last, seconds.
    """

    client: int
    bad: int = 0
    answers: int = 0
    silences: int = 0
    forgivable: int = 0
    last_seconds: float = 0.0
    usual_seconds: float = 0.0
    faults: int = 0
    ready_at: float = 0.0
    in_flight: int = 0
    key: str = ""
    undone: int = 0
    undone_at: float = 0.0

    def note_answer(self, seconds: float) -> None:
        """Note that it answered a task, if late: silence is forgiven."""
        self.last_seconds = seconds
        self.silences = self.faults = 0
        self.bad -= self.forgivable
        self.forgivable = 0
