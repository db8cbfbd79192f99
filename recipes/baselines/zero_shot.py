"""Ask the strong model, untrained: zero-shot elicitation. Not available where it can't answer (an encoder)."""

from recipes.contract import NotAvailable


async def recipe(task):
    if not task.has_prior:
        raise NotAvailable("the strong model has no zero-shot answers here")
    return task.untrained()
