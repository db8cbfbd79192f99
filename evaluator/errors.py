"""What can go wrong in the evaluator through its user's doing or the machine's."""


class EvaluatorError(Exception):
    """Base of the evaluator's errors.

    The message names the mistake, its place and the remedy, on one line.
    """


class TestbedError(EvaluatorError):
    """A testbed is missing, malformed or unusable."""

    __test__ = False
