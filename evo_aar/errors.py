"""What a user can do wrong."""


class UsageError(Exception):
    """A mistake on the command line. The message names it and the remedy, on one line."""
