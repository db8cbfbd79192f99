"""Audits: does a recipe win by what it claims to do?

Each is a re-run in a changed world, or a reading, and ends in a number and a verdict.
"""
