"""What a recipe's request can fail with, as the recipe sees it."""

from __future__ import annotations


class TaskError(Exception):
    """A request that could not be served.

    Uncaught, it ends the trial as failed, with its message as the reason.
    """


class InvalidRequest(TaskError):
    """The request breaks the contract: rows out of range, targets that aren't probabilities, an
    unknown loss.
    """


class NotAvailable(TaskError):
    """This testbed's strong model can't answer: an encoder has no zero-shot prior."""


class BudgetExceeded(TaskError):
    """The trial's budget of trained and forwarded tokens doesn't cover this request.

    It may still return a student.
    """


ERRORS = {cls.__name__: cls for cls in (TaskError, InvalidRequest, NotAvailable, BudgetExceeded)}
