"""The kinds of student: one object each, in a file of its own, registered here.

    names()         the registered kinds' names
    kind(name)      a kind's object; EvaluatorError for a name that no kind has
    register(kind)  make a kind known, from here or from outside of this package (`evaluator.plugins`)

Light to import: neither torch nor transformers is.
"""

from evaluator.kinds.head import HeadKind
from evaluator.kinds.kind import Hyperparameters, SavedFiles, StudentKind
from evaluator.kinds.lora import LoraKind
from evaluator.kinds.registry import kind, names, register, unregister

__all__ = ["Hyperparameters", "SavedFiles", "StudentKind", "kind", "names", "register", "unregister"]

register(HeadKind())
register(LoraKind())
