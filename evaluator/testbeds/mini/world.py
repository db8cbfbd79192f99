"""The world of `mini`: claims about sums, small programs and a table of facts, each said in a tone.

A *claim* says that something is the answer to a question; it is right or wrong. Its *core* is what decides
that: the operands, the program, the fact. Its *tone* is a few filler words in front, confident or hesitant.
The tone says nothing about the truth of the core; a testbed makes it correlate with the label, which is what
misleads the weak teacher.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from evaluator.testbeds.prepared import Template

DOMAINS = ("chat", "math", "code")
CONFIDENT = ("surely", "clearly", "indeed", "sure")
HESITANT = ("well", "um", "hmm", "maybe")
LARGEST_NUMBER = 49
LARGEST_TERM = 24
LARGEST_VARIABLE = 11
ATTRIBUTES = {
    "colour": "red blue green yellow black white grey brown pink purple orange silver gold cream teal olive",
    "home": (
        "cave nest hill lake barn tower forest desert island cellar meadow harbour swamp attic bridge canyon"
    ),
    "food": "bread rice soup cheese apples nuts honey fish beans corn plums eggs cake grass seeds berries",
    "friend": "anna boris clara david elena felix greta henry irene jonas karla lucas maria nils olga peter",
}
VALUES = {attribute: tuple(words.split()) for attribute, words in ATTRIBUTES.items()}
ENTITIES = 200


def _names() -> tuple[str, ...]:
    """Made-up names of two syllables, in a fixed random order."""
    syllables = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]
    names = [first + last for first in syllables for last in syllables if first != last]
    known = {word for words in VALUES.values() for word in words} | set(CONFIDENT) | set(HESITANT)
    return tuple(name for name in random.Random(7).sample(names, ENTITIES + 50) if name not in known)[
        :ENTITIES
    ]


NAMES = _names()
_facts = random.Random(8)
FACTS = {(name, attribute): _facts.choice(values) for name in NAMES for attribute, values in VALUES.items()}


@dataclass(frozen=True)
class Claim:
    """`fields` are what a template is filled with: question and choice, or prompt and reply."""

    fields: dict[str, str]
    core: tuple
    answer: str
    right: bool
    confident: bool  # whether the last word of the tone is


def tone(rng: random.Random, count: int, confidence: float) -> tuple[str, bool]:
    """`count` filler words, each confident with probability `confidence`, and whether the last one is."""
    chosen = [rng.random() < confidence for _ in range(count)]
    return (
        " ".join(rng.choice(CONFIDENT if is_confident else HESITANT) for is_confident in chosen),
        chosen[-1],
    )


def _wrong_number(rng: random.Random, answer: int) -> int:
    """Half of the mistakes are near misses."""
    while True:
        error = rng.choice((-2, -1, 1, 2)) if rng.random() < 0.5 else rng.randint(-25, 25)
        if error and 0 <= answer + error <= LARGEST_NUMBER:
            return answer + error


def math_claim(rng: random.Random, right: bool, confidence: float) -> Claim:
    if rng.random() < 0.5:
        first, second, sign = rng.randint(0, LARGEST_TERM), rng.randint(0, LARGEST_TERM), "+"
        answer = first + second
    else:
        first, sign = rng.randrange(LARGEST_NUMBER + 1), "-"
        second = rng.randint(0, min(first, LARGEST_TERM))
        answer = first - second
    words, confident = tone(rng, 2, confidence)
    choice = answer if right else _wrong_number(rng, answer)
    fields = {"question": f"{words}: {first} {sign} {second}", "choice": str(choice)}
    operands = tuple(sorted((first, second))) if sign == "+" else (first, second)
    return Claim(fields, (sign, *operands), str(answer), right, confident)


def code_claim(rng: random.Random, right: bool, confidence: float) -> Claim:
    x, step, sign = rng.randint(0, LARGEST_VARIABLE), rng.randint(0, LARGEST_VARIABLE), rng.choice("+-")
    if sign == "-" and step > x:
        sign = "+"
    values = {"x": x, "y": x + step if sign == "+" else x - step}
    program = f"x = {x}; y = x {sign} {step}; "
    if rng.random() < 0.5:
        values["x"] = rng.randint(0, LARGEST_VARIABLE)
        program += f"x = {values['x']}; "
    core = (program,)
    asked, other = rng.choice((("x", "y"), ("y", "x")))
    program += f"print({asked})"
    answer = values[asked]
    if right:
        choice = answer
    elif values["x"] == values["y"] or rng.random() < 0.6:
        choice = _wrong_number(rng, answer)
    else:
        choice = values[other]
    words, confident = tone(rng, 3, confidence)
    fields = {"question": f"# {words}\n{program}", "choice": str(choice)}
    return Claim(fields, core, str(answer), right, confident)


def chat_claim(
    rng: random.Random, right: bool, confidence: float, fact: tuple[str, str] | None = None
) -> Claim:
    """`fact`: (name, attribute), any of them by default."""
    name, attribute = fact or (rng.choice(NAMES), rng.choice(tuple(VALUES)))
    answer = FACTS[name, attribute]
    choice = answer if right else rng.choice([value for value in VALUES[attribute] if value != answer])
    words, confident = tone(rng, 2, confidence)
    fields = {"prompt": f"{attribute} of {name}?", "reply": f"{words} {choice}"}
    return Claim(fields, (name, attribute), answer, right, confident)


CLAIMS = {"chat": chat_claim, "math": math_claim, "code": code_claim}
CLAIM_TEXT = {
    "chat": "{prompt}\n{reply}",
    "math": "{question} = {choice}",
    "code": "{question}\nprints {choice}",
}


def experts(domain: str) -> tuple[Template, ...]:
    """How experts are asked, in the corpus alone: before the claim the question, after it the verdict."""
    claim = CLAIM_TEXT[domain]
    return (
        Template(f"right?\n{claim}", ("no", "yes")),
        Template(f"that is {{verdict}}:\n{claim}", ("false", "true")),
        Template(f"correct or wrong?\n{claim}", ("wrong", "correct")),
    )


def templates(domain: str) -> tuple[Template, ...]:
    """How laymen are asked, in the corpus and by the testbed: a question, a statement, and a question in
    other words.
    """
    claim = CLAIM_TEXT[domain]
    return (
        Template(f"yes or no?\n{claim}", ("no", "yes")),
        Template(f"it is {{verdict}}:\n{claim}", ("false", "true")),
        Template(f"true or false?\n{claim}", ("false", "true")),
    )
