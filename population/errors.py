"""What can go wrong in the population through its user's doing or the machine's."""


class PopulationError(Exception):
    """Base of the population's errors.

    The message names the mistake, its place and the remedy, on one line.
    """


class StoreError(PopulationError):
    """The store cannot be created, opened, read or appended to; or what was to be appended does not belong
    there.
    """


class StoreInUse(StoreError):
    """Another writer has the store open."""


class StoreConflict(StoreError):
    """An event is on record already, with other content: a replayed search has taken another path."""
