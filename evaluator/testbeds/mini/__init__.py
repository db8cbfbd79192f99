"""The built-in testbed `mini`: three small domains, a strong decoder that was pretrained on them, and weak
teachers.

`prepare(domain, path)` writes one of them in the form of `evaluator.testbeds.prepared`. See docs/testbeds.md.
"""

from evaluator.testbeds.mini.prepare import DOMAINS, prepare

__all__ = ["DOMAINS", "prepare"]
