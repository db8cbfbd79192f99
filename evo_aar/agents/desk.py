"""The tools of an agent that makes one child: reading, thinking, editing, trying, posting, submitting.

Each tool is a method whose signature and docstring the model is shown. All that a tool tells is a function of
the search as it stood when the generation began, and of what this agent did before.
"""

from __future__ import annotations

import difflib
import functools
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from evo_aar.agents.laboratory import Laboratory
from evo_aar.agents.library import Library, ToolError
from evo_aar.search.audits import static_failures
from evo_aar.search.operator import OperatorContext
from population.errors import PopulationError
from population.forum import Finding
from population.individual import individual_id
from recipes.errors import RecipeError
from recipes.source import MAX_BYTES, source_hash, validate

if TYPE_CHECKING:
    from anthropic.lib.tools import BetaFunctionTool

LONGEST_RESULT = 12_000
LONGEST_FINDING = 2_000
FINDINGS = 3
"""Findings that one agent may post."""


@dataclass
class TriesLeft:
    """How many trials an island's agents still have in a generation. They share it."""

    left: int


@dataclass(frozen=True)
class Submission:
    """What an agent handed in: the source, the changes in plain words, the reasons."""

    source: str
    changes: tuple[str, ...]
    reasons: str


class Desk:
    """One agent's draft and tools.

    `library`: what it may read; `laboratory`: where it may run things; `tries`: its island's trials, shared.
    """

    def __init__(
        self,
        context: OperatorContext,
        verb: str,
        draft: str,
        library: Library,
        laboratory: Laboratory,
        tries: TriesLeft,
    ) -> None:
        self._context = context
        self._verb = verb
        self._draft = draft
        self._library = library
        self._laboratory = laboratory
        self._tries = tries
        self._posted = 0
        self.submitted: Submission | None = None
        self._tools = _tools(self)

    def run(self, name: str, given: dict) -> tuple[str, bool]:
        """A tool's result, and whether it is an error."""
        if self.submitted:
            return "A recipe is submitted already; nothing more was done.", True
        tool = self._tools.get(name)
        if tool is None:
            return f"There is no tool {name!r}. Tools: {', '.join(self._tools)}.", True
        try:
            return _clipped(str(tool.call(given))), False
        except ToolError as error:
            return _clipped(str(error)), True
        except ValueError:  # the SDK's word for arguments that don't fit the schema
            wanted = ", ".join(map(str, _properties(tool))) or "none"
            return f"The input of {name} doesn't fit. Its arguments: {wanted}.", True

    def state(self) -> dict:
        """What a replay has to restore, JSON."""
        return {
            "draft": self._draft,
            "tries": self._tries.left,
            "tried": [one.to_json() for one in self._library.view.log()],
            "posted": self._posted,
            "submitted": asdict(self.submitted) if self.submitted else None,
        }

    def restore(self, state: dict) -> None:
        """Bring the desk to where it stood after a turn whose results were replayed."""
        self._draft, self._posted = state["draft"], state["posted"]
        handed = state["submitted"]
        self.submitted = Submission(**{**handed, "changes": tuple(handed["changes"])}) if handed else None
        self._tries.left = state["tries"]
        self._library.replay(state["tried"])

    # ---- reading

    def read_recipe(self, recipe: str, against: str = "") -> str:
        """Read a recipe: of your island's archive, a parent that you were given, or one attached to a
        finding.

        Args:
            recipe: its id, such as g002-i3-c01.
            against: the id of another recipe, or "parent": show what changed from that one instead of the
                whole.
        """
        one = self._library.individual(recipe)
        if not against:
            return f"{self._library.facts(one)}\n\n{one.source}"
        if against == "parent" and not one.parents:
            raise ToolError(f"{recipe} has no parent: it is a seed or a draft.")
        other = self._library.parent(one) if against == "parent" else self._library.individual(against)
        lines = difflib.unified_diff(
            other.source.splitlines(), one.source.splitlines(), other.id, one.id, lineterm=""
        )
        return "\n".join(lines) or f"{recipe} and {other.id} are the same."

    def read_history(self, recipe: str) -> str:
        """Read how a recipe's trainings went: loss, gradient norm and agreement with its targets by step, of
        its first trial.

        Args:
            recipe: its id.
        """
        return self._library.history(self._library.individual(recipe))

    def list_findings(self) -> str:
        """List what the agents of all islands have posted on the forum, a line each."""
        lines = [
            f"{number}: island {one.island}, generation {one.generation}: {one.title}"
            + (f" (recipe {recipe})" if (recipe := self._library.attached(one)) else "")
            for number, one in enumerate(self._library.findings)
        ]
        return "\n".join(lines) or "Nobody has posted anything yet."

    def read_finding(self, number: int) -> str:
        """Read a finding.

        Args:
            number: as list_findings gives it.
        """
        if not 0 <= number < len(self._library.findings):
            raise ToolError(
                f"There is no finding {number}; there are {len(self._library.findings)}, numbered from 0."
            )
        return self._library.finding(self._library.findings[number])

    def search_forum(self, words: str) -> str:
        """Search the forum. The best matches come first.

        Args:
            words: what to look for.
        """
        found = self._library.search(words)
        return "\n\n".join(self._library.finding(one) for one in found) or "Nothing matches."

    # ---- writing

    def show_draft(self) -> str:
        """Show your draft as it stands."""
        return self._draft or "Your draft is empty."

    def edit(self, old: str, new: str) -> str:
        """Replace a passage of your draft.

        Args:
            old: the passage, to the letter; it must stand in the draft exactly once.
            new: what takes its place.
        """
        count = self._draft.count(old) if old else 0
        if count != 1:
            raise ToolError(f"That passage stands in the draft {count} times, not once; nothing was changed.")
        self._draft = self._sized(self._draft.replace(old, new))
        return "Done."

    def write(self, source: str) -> str:
        """Replace your whole draft.

        Args:
            source: the new recipe file.
        """
        self._draft = self._sized(source)
        return "Done."

    def _sized(self, source: str) -> str:
        if len(source.encode("utf-8", "replace")) > MAX_BYTES:
            raise ToolError(
                f"A recipe has at most {MAX_BYTES:,} bytes; this would have {len(source):,} characters."
                " Nothing was changed."
            )
        return source.encode("utf-8", "replace").decode("utf-8")

    # ---- trying

    def check(self) -> str:
        """Check your draft: syntax, the contract, whether it is new, and a run in the sandbox on 32 rows with
        random labels. Costs nothing.
        """
        self._valid()
        outcome = self._laboratory.smoke(self._draft, self._context)
        if outcome.ok:
            return (
                "It runs. Tokens spent, of a budget in proportion:"
                f" {outcome.tokens:,}.{_printed(outcome.output)}"
            )
        raise ToolError(f"It fails: {outcome.reason}: {outcome.message}{_printed(outcome.output)}")

    def run_python(self, code: str) -> str:
        """Run Python in the sandbox of recipes, on the real training pool: `task` is there, NumPy as np, and
        `await` works. Costs nothing.

        Look at distributions, agreements, small trainings. No labels are there. What you print comes back.

        Args:
            code: statements, as in the body of `async def recipe(task)`.
        """
        outcome = self._laboratory.explore(code, self._context)
        printed = outcome.output or "(nothing was printed)\n"
        if outcome.ok:
            return printed
        raise ToolError(f"{printed}\nIt failed: {outcome.reason}: {outcome.message}")

    def try_draft(self) -> str:
        """Try your draft on a part of the training pool and be told, coarsely, how it did.

        Your island's agents have few such trials: check first.
        """
        digest = self._valid()
        if self._tries.left < 1:
            raise ToolError("Your island has no trial left in this generation. Submit what you believe in.")
        self._tries.left -= 1
        trial = self._laboratory.try_out(self._draft, digest, self._context)
        if not trial.ok:
            raise ToolError(f"It failed: {trial.reason}: {trial.message}")
        shown = self._library.tried(trial)
        told = (
            f"{shown.text[0].upper()}{shown.text[1:]}. Low fidelity, one seed: compared with such trials"
            " alone."
            if shown
            else "Not graded."
        )
        return f"{told}\n{self._library.nearest(trial)}\nTrials left on your island: {self._tries.left}."

    def _valid(self) -> str:
        """The draft's hash. Raises `ToolError` where it can't be a child."""
        try:
            recipe = validate(self._draft)
        except RecipeError as error:
            raise ToolError(f"It breaks the contract: {error}") from None
        if recipe.direction != self._context.direction:
            raise ToolError(
                f"Its docstring must have the line `Direction: {self._context.direction}`, your island's."
            )
        if faults := static_failures(self._draft):
            raise ToolError(f"It would be set apart by the audit that reads recipes: {faults}.")
        digest = source_hash(self._draft)
        if digest in self._context.born:
            known = self._library.born_as(digest)
            raise ToolError(
                f"This recipe was born before{f' as {known}' if known else ''}, but for comments and layout."
                " Change what it does."
            )
        return digest

    # ---- telling

    def post_finding(self, title: str, text: str, recipe: str = "") -> str:
        """Tell the other islands what you found out, whether it worked or not. They read it from the next
        generation on.

        Args:
            title: one line.
            text: what you did, what you saw, what you make of it.
            recipe: the id of a recipe to attach, or nothing.
        """
        if self._posted >= FINDINGS:
            raise ToolError(f"You have posted {FINDINGS} findings: that is enough.")
        attached = self._library.individual(recipe).source_hash if recipe else None
        context = self._context
        author = individual_id(context.generation, context.island, context.child)
        try:
            finding = Finding(
                author, context.island, context.generation, title[:200], text[:LONGEST_FINDING], attached
            )
        except PopulationError as error:
            raise ToolError(str(error)) from None
        self._posted += 1
        return (
            "Posted."
            if self._library.post(finding)
            else "Others have said this before; it is on record, and shown once."
        )

    def submit(self, changes: list[str], reasons: str) -> str:
        """Hand in your draft as the child. This ends your work; its full trials follow.

        Args:
            changes: what it does otherwise than its parents, in plain words, an item each.
            reasons: why; in a crossover also what was taken from which parent, and why.
        """
        self._valid()
        if not [change for change in changes if change.strip()]:
            raise ToolError("Say in `changes` what the child does otherwise than its parents.")
        if not reasons.strip():
            raise ToolError(
                "Say in `reasons` why."
                if self._verb != "crossover"
                else "Say in `reasons` what was taken from whom, and why."
            )
        self.submitted = Submission(
            self._draft,
            tuple(change.strip()[:300] for change in changes if change.strip())[:8],
            reasons.strip()[:2_000],
        )
        return "Submitted."


def _printed(output: str) -> str:
    return f"\nIt printed:\n{output}" if output else ""


def _clipped(text: str) -> str:
    if len(text) <= LONGEST_RESULT:
        return text
    half = LONGEST_RESULT // 2
    return f"{text[:half]}\n... ({len(text) - LONGEST_RESULT:,} characters left out)\n{text[-half:]}"


TOOLS = (
    "read_recipe",
    "read_history",
    "list_findings",
    "read_finding",
    "search_forum",
    "show_draft",
    "edit",
    "write",
    "check",
    "run_python",
    "try_draft",
    "post_finding",
    "submit",
)
"""The desk's methods that an agent may call."""


@functools.cache
def tool_schemas() -> tuple[dict[str, Any], ...]:
    """The tools as the Messages API takes them."""
    nobody = Desk.__new__(Desk)  # a tool's schema is its signature and docstring
    return tuple(dict(tool.to_dict()) for tool in _tools(nobody).values())


def _properties(tool: BetaFunctionTool[Any]) -> list[str]:
    found = tool.to_dict()["input_schema"].get("properties")
    return list(found) if isinstance(found, dict) else []


def _tools(desk: Desk) -> dict[str, BetaFunctionTool[Any]]:
    from anthropic import beta_tool

    return {name: beta_tool(getattr(desk, name)) for name in TOOLS}
