"""MLflow tracking: a run per search, island and individual, nested in this order.

The store is the truth and MLflow a view of it: what is shown is derived from the store alone, and whatever is
missing there is added at the next opportunity.
"""

from evo_aar.tracking.tracker import Tracker

__all__ = ["Tracker"]
