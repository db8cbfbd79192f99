"""Agents as operators: a language model that reads, thinks, edits and tries, over the `anthropic` SDK.

`operator.AgentOperator` is the way in.
"""
