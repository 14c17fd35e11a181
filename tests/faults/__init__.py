"""The fault table: what a gateway can do wrong, and what comes of it for a caller of ours and of the openai SDK."""
