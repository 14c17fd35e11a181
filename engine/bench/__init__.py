"""Measures streams: who starts when, what each answer did, and how far the measuring itself can be trusted."""
