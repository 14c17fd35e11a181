"""Many rows through one engine: read, sent with bounded concurrency, kept in a journal, given out once."""
