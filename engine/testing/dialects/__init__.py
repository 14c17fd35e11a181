"""How gateways write: one file per dialect, all of the same shape (`dialect.Dialect`)."""

from .dialect import Dialect
from .nim import NIM
from .openai import OpenAI

DIALECTS: dict[str, type[Dialect]] = {dialect.name: dialect for dialect in (OpenAI, NIM)}
"""Every dialect by its name."""

__all__ = ["DIALECTS", "Dialect"]
