"""What the decoders of `mini` read: claims, followed by what somebody says about them.

Experts are rarely wrong. Laymen know the answer now and then, and otherwise believe what is said confidently.
Each are asked in wordings of their own, and the testbed asks as one asks laymen: the model knows better than
what it says there, as a model that imitates people would. The tone tells nothing about the truth here.
"""

from __future__ import annotations

import random
from typing import NamedTuple

from evaluator.testbeds.mini.world import (
    CLAIMS,
    CONFIDENT,
    HESITANT,
    LARGEST_NUMBER,
    NAMES,
    VALUES,
    Claim,
    chat_claim,
    experts,
    templates,
)

SHARE_RIGHT = 0.6
ZIPF = 0.6  # facts about a few names are told often, about most seldom
AGREES_IF_RIGHT, AGREES_IF_WRONG = 0.97, 0.05  # those who know err now and then
KNOWING = {"chat": 0.4, "math": 0.33, "code": 0.26}  # how often a layman knows
WORDS = "x y print prints is of right that correct or wrong yes no true false agreed disagreed it"
_NAME_WEIGHTS = [1 / (rank + 1) ** ZIPF for rank in range(len(NAMES))]


def _claim(rng: random.Random, domain: str) -> Claim:
    right, confidence = rng.random() < SHARE_RIGHT, rng.random()
    if domain != "chat":
        return CLAIMS[domain](rng, right, confidence)
    return chat_claim(
        rng, right, confidence, (rng.choices(NAMES, _NAME_WEIGHTS)[0], rng.choice(tuple(VALUES)))
    )


class Document(NamedTuple):
    """`given` is read, `text` (the same and what follows it) is learnt from there on: the choice, the
    verdict, the correction.
    """

    given: str
    text: str


def document(rng: random.Random, domain: str, laymen: float) -> Document:
    """One claim with a verdict and, where the claim is wrong, its correction.

    `laymen`: the probability that a layman judges.
    """
    claim = _claim(rng, domain)
    asked = rng.random() < laymen
    template = rng.choice((templates if asked else experts)(domain))
    knows = not asked or rng.random() < KNOWING[domain]
    agrees = rng.random() < (
        AGREES_IF_RIGHT if (claim.right if knows else claim.confident) else AGREES_IF_WRONG
    )
    if template.is_statement:
        says_true = rng.random() < 0.5
        asserted = template.pattern.format(verdict=template.label_words[says_true], **claim.fields)
        verdict = "agreed" if agrees == says_true else "disagreed"
    else:
        asserted, verdict = template.pattern.format(**claim.fields), template.label_words[agrees]
    given = asserted.rsplit(" ", 1)[0]
    return Document(given, f"{asserted} {verdict}{'.' if claim.right else f', it is {claim.answer}.'}")


def documents(seed: int, domain: str, count: int, laymen: float) -> list[Document]:
    """`count` documents; the same seed gives the same ones, on every machine."""
    rng = random.Random(f"{seed}/{domain}")
    return [document(rng, domain, laymen) for _ in range(count)]


def vocabulary() -> list[str]:
    """Every word of the world, sorted. The tokens of the decoders, after the special ones."""
    words = {*CONFIDENT, *HESITANT, *NAMES, *VALUES, *(str(number) for number in range(LARGEST_NUMBER + 1))}
    for values in VALUES.values():
        words.update(values)
    words.update(".,:;?=+-#()")
    words.update(WORDS.split())
    return sorted(words)
