"""The published clients against the gateway, so that no dialect can drift from what clients read.

Each module is skipped where its client is not installed.
"""
