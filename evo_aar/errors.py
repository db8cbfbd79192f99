"""What a user can do wrong."""


class UsageError(Exception):
    """A mistake on the command line. The message names it and the remedy, on one line."""


class SearchStopped(Exception):
    """The search can't or shan't go on now, and nothing is lost. The message says why, on one line.

    `within_budget`: a limit that the user set was reached, which is no error.
    """

    def __init__(self, message: str, *, within_budget: bool = False) -> None:
        super().__init__(message)
        self.within_budget = within_budget
