"""Figures, tables and texts as people see them, on a terminal or in Markdown."""
