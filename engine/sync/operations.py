"""The typed operations of gateways, blocking. Arguments and texts are those of the methods they are made of."""

from __future__ import annotations

from ..engines import Modelgov, OmniGate
from .twin import Twin, blocking, blocking_stream


class ModelgovOperations(Twin):
    """What one can ask of Modelgov, see `penstock.engine.gateways.modelgov.ModelgovOperations`."""

    # mypy minds that ``**options: Any`` might hold a second `self`; the types it finds are right.
    chat = blocking(Modelgov.chat)  # type: ignore[arg-type]
    chat_stream = blocking_stream(Modelgov.chat_stream)  # type: ignore[arg-type]
    embed = blocking(Modelgov.embed)  # type: ignore[arg-type]
    extract_document = blocking(Modelgov.extract_document)  # type: ignore[arg-type]
    explain = blocking(Modelgov.explain)  # type: ignore[arg-type]
    get_usage = blocking(Modelgov.get_usage)  # type: ignore[arg-type]
    get_usage_summary = blocking(Modelgov.get_usage_summary)  # type: ignore[arg-type]
    get_usage_transactions = blocking(Modelgov.get_usage_transactions)  # type: ignore[arg-type]
    get_provider_health = blocking(Modelgov.get_provider_health)  # type: ignore[arg-type]
    ready = blocking(Modelgov.ready)  # type: ignore[arg-type]


class OmniGateOperations(Twin):
    """What one can ask of OmniGate, see `penstock.engine.gateways.omnigate.OmniGateOperations`."""

    chat = blocking(OmniGate.chat)
    chat_stream = blocking_stream(OmniGate.chat_stream)
    completions = blocking(OmniGate.completions)
    completions_stream = blocking_stream(OmniGate.completions_stream)
    signup = blocking(OmniGate.signup)
    set_provider_key = blocking(OmniGate.set_provider_key)
    create_api_key = blocking(OmniGate.create_api_key)
    me = blocking(OmniGate.me)
    metrics = blocking(OmniGate.metrics)
