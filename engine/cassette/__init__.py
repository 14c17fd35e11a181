"""Recordings of what gateways answered, read by read, and how they are played again.

A cassette is a file of JSON lines. What goes into it and comes out of it is here; who asks for it are the middlewares
`Record` and `Replay`, and ``penstock record``.
"""
