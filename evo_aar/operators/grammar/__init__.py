"""The stages that the offline operator can write into a recipe.

Each is ordinary code, a function with its own upper-case constants, told apart by its parameters:

    async def NAME(task, targets)            a stage: beliefs about the labels [n, 2] in, better ones out
    async def select_NAME(task, targets)     a selection: the rows to train on
    async def fit_NAME(task, targets, rows)  a fit: trains and returns the student
    async def NAME(task, targets, rows)      a fit around the recipe's own `fit`

Names are shared by all files of this folder; `library` reads them as one.
"""
