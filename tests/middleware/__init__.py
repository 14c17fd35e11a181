"""Tests of `penstock.middleware`."""
