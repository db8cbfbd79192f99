"""The real command, run within the tests' process: what it prints, and its exit status."""

import contextlib
import io
import json
import sys
from dataclasses import dataclass

import pytest

from evo_aar.cli import main


@dataclass(frozen=True)
class Answer:
    status: int
    out: str
    err: str

    @property
    def json(self):
        assert self.out, self.err
        return json.loads(self.out)

    @property
    def error(self):
        """The one line that a refusal says."""
        assert self.status == 2 and self.out == "", self
        (line,) = self.err.splitlines()
        assert line.startswith("error: ")
        return line.removeprefix("error: ")


def evo_aar(*arguments):
    """`evo-aar ARGUMENTS`, as a shell would run it."""
    out, err = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        patch.setattr(sys, "argv", ["evo-aar", *map(str, arguments)])
        try:
            main()
            status = 0
        except SystemExit as ending:
            status = ending.code or 0
    return Answer(status, out.getvalue(), err.getvalue())
