"""Tests of the pytest plugin, most of them by pytest run on a test written for the purpose."""
