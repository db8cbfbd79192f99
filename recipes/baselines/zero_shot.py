"""Ask the strong model, untrained, at the threshold that splits the pool as the teacher does.

The calibration is that of Zhou et al. 2023, "Batch Calibration": a model's bias towards one label word is a constant. Where the
strong model can't answer (an encoder), this baseline is not available.
"""

import numpy as np

from recipes.contract import NotAvailable


async def recipe(task):
    if not task.has_prior:
        raise NotAvailable("the strong model has no zero-shot answers here")
    prior = await task.prior()
    log_odds = np.log(prior[:, 1] + 1e-9) - np.log(prior[:, 0] + 1e-9)
    return task.shift(task.untrained(), -np.quantile(log_odds, 1 - task.weak_labels.argmax(axis=1).mean()))
