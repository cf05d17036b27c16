"""The directive ``command-help``: what a command says of itself at build time."""

import contextlib
import io
import shlex
import sys
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import Directive

from fedasync_jax.cli import command


class CommandHelp(Directive):
    """A block with the output of a command line, such as ``fedasync train --help``."""

    required_arguments = 1
    final_argument_whitespace = True
    option_spec: ClassVar[Any] = {}

    def run(self) -> list[nodes.Node]:
        """Return the block."""
        (line,) = self.arguments
        out, before = io.StringIO(), sys.argv
        sys.argv = shlex.split(line)
        try:
            with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
                command.main()
        finally:
            sys.argv = before
        text = out.getvalue().rstrip()
        if not text:
            raise self.error(f"{line} printed nothing")
        return [nodes.literal_block(text, text, language="text")]


def setup(app: Any) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("command-help", CommandHelp)
    return {"parallel_read_safe": True}
