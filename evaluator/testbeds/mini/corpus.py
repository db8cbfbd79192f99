"""What the decoders of `mini` read: claims, followed by what somebody says about them.

The judges of this corpus are fallible, as people are: a confident tone sways them towards agreeing. So the strong model's
own verdict errs in a systematic way too, though what is said next (the correction) tells the truth, and the model has to know it.
"""

from __future__ import annotations

import random

from evaluator.testbeds.mini.world import CLAIMS, NAMES, VALUES, Claim, chat_claim, templates

SHARE_RIGHT = 0.6
ZIPF = 0.9  # facts about a few names are told often, about most seldom
# P(the judge agrees) by (right, mostly confident tone), for the templates 0, 1, 2 in turn.
AGREEMENT = (
    {(True, True): 0.97, (True, False): 0.75, (False, True): 0.65, (False, False): 0.20},
    {(True, True): 0.95, (True, False): 0.85, (False, True): 0.35, (False, False): 0.10},
    {(True, True): 0.95, (True, False): 0.85, (False, True): 0.60, (False, False): 0.30},
)
_NAME_WEIGHTS = [1 / (rank + 1) ** ZIPF for rank in range(len(NAMES))]


def _claim(rng: random.Random, domain: str) -> Claim:
    right, confidence = rng.random() < SHARE_RIGHT, rng.random()
    if domain != "chat":
        return CLAIMS[domain](rng, right, confidence)
    return chat_claim(rng, right, confidence, (rng.choices(NAMES, _NAME_WEIGHTS)[0], rng.choice(tuple(VALUES))))


def document(rng: random.Random, domain: str) -> str:
    """One claim with a verdict and, where the claim is wrong, its correction."""
    claim = _claim(rng, domain)
    number = rng.randrange(3)
    template = templates(domain)[number]
    sounds_confident = claim.confident > 0.5 or (claim.confident == 0.5 and rng.random() < 0.5)
    agrees = rng.random() < AGREEMENT[number][claim.right, sounds_confident]
    correction = "." if claim.right else f", it is {claim.answer}."
    if template.is_statement:
        says_true = rng.random() < 0.5
        text = template.pattern.format(verdict=template.verdicts[says_true], **claim.fields)
        return f"{text}, {'agreed' if agrees == says_true else 'disagreed'}{correction}"
    return f"{template.pattern.format(**claim.fields)} {template.verdicts[agrees]}{correction}"


def documents(seed: int, domain: str, count: int) -> list[str]:
    """`count` documents; the same seed gives the same ones, on every machine."""
    rng = random.Random(f"{seed}/{domain}")
    return [document(rng, domain) for _ in range(count)]


def vocabulary() -> list[str]:
    """Every word of the world, sorted. The tokens of the decoders, after the special ones."""
    from evaluator.testbeds.mini.world import CONFIDENT, HESITANT, LARGEST_NUMBER

    words = {*CONFIDENT, *HESITANT, *NAMES, *VALUES, *(str(number) for number in range(LARGEST_NUMBER + 1))}
    for values in VALUES.values():
        words.update(values)
    words.update(".,:;?=+-#()", "x y print prints is of right that correct or wrong yes no true false agreed disagreed it".split())
    return sorted(words)
