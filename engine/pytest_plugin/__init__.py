"""The pytest plugin: a gateway, an engine, a clock and a cassette for each test, and a check of what it leaves open.

Nothing here imports the engine or an HTTP client before a test asks for a fixture.
"""
