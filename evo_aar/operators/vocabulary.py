"""Names for the constants that carry the options of the contract's losses in a recipe."""

from __future__ import annotations

_PREFIX = {
    "log_confidence": "CONFIDENCE",
    "confidence_window": "WINDOW",
    "symmetric_cross_entropy": "SYMMETRIC",
    "generalised_cross_entropy": "GENERALISED",
}


def option_constant(loss: str, option: str) -> str:
    """The upper-case constant that carries an option of a loss, such as CONFIDENCE_STRENGTH."""
    return f"{_PREFIX.get(loss, loss)}_{option}".upper()
