"""How gateways write: one dialect each, all of the same shape (`dialect.Dialect`)."""

from .atrium import Atrium
from .dialect import Dialect
from .keeptrusts import Keeptrusts
from .modelgov import Modelgov
from .nim import NIM
from .omnigate import OmniGate
from .openai import OpenAI

DIALECTS: dict[str, type[Dialect]] = {
    dialect.name: dialect for dialect in (OpenAI, NIM, Modelgov, Atrium, OmniGate, Keeptrusts)
}
"""Every dialect by its name."""

__all__ = ["DIALECTS", "Dialect"]
