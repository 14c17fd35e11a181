"""OmniGate: chats in JSON and plain text, a twin of OpenAI's chat completions, and the account behind a key.

By its client omnigate 0.1.0, and by the server 0.2.0 (sreekarp/omnigate) where the client says nothing.
"""

from .gateway import OmniGateGateway
from .operations import OmniGateOperations
from .types import (
    CallParams,
    MetricsGroup,
    MetricsRange,
    OmniGateAccount,
    OmniGateApiKey,
    OmniGateChatParams,
    OmniGateGroup,
    OmniGateMetrics,
    OmniGateModelExtra,
    OmniGatePricing,
    OmniGateProject,
    OmniGateTimePoint,
    OmniGateTotals,
    Provider,
)

__all__ = [
    "CallParams",
    "MetricsGroup",
    "MetricsRange",
    "OmniGateAccount",
    "OmniGateApiKey",
    "OmniGateChatParams",
    "OmniGateGateway",
    "OmniGateGroup",
    "OmniGateMetrics",
    "OmniGateModelExtra",
    "OmniGateOperations",
    "OmniGatePricing",
    "OmniGateProject",
    "OmniGateTimePoint",
    "OmniGateTotals",
    "Provider",
]
