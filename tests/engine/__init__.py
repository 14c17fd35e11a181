"""Tests of `penstock.engine`."""
