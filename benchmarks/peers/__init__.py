"""What is compared: one file for each library, imported in that library's own virtual environment alone.

A module here has a function ``connect(url)``, which gives a `base.Peer`. Its requirements stand in `venvs`.
"""
