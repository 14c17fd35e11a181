"""Negative controls: each takes one defence away, and the tests that are there for it have to notice.

``python -m tests.controls`` runs all of them, ``--only NAME`` one.
"""
