"""Inputs nobody thought of, for everything that reads what a gateway sends.

`targets` says what must hold, of any bytes. `test_fuzz` tries a few hundred inputs in the ordinary test run, and every
one in ``found/`` again. ``python -m tests.fuzz`` searches for as long as it is told to, guided by the lines that an
input reaches (Atheris, dependency group ``fuzz``), and puts what breaks a promise into ``found/``.
"""
