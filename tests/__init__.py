"""Tests. The path of a test is the path of its subject."""
