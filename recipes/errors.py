"""What can be wrong with a recipe file."""


class RecipeError(Exception):
    """A recipe file breaks the contract. The message names the mistake, its line where there is one, and the
    remedy.

    `line` is the 1-based line of the mistake, or None where it concerns the file as a whole.
    """

    def __init__(self, problem: str, *, line: int | None = None, remedy: str = "") -> None:
        self.problem, self.line, self.remedy = problem, line, remedy
        place = "" if line is None else f"line {line}: "
        super().__init__(f"{place}{problem}" + (f" ({remedy})" if remedy else ""))

    def __reduce__(self) -> tuple:
        return _rebuild, (self.problem, self.line, self.remedy)


def _rebuild(problem: str, line: int | None, remedy: str) -> RecipeError:
    return RecipeError(problem, line=line, remedy=remedy)
