"""The sandbox that recipes run in: what it is made of, what a machine offers of it, and whether it holds.

See docs/integrity.md.
"""
