"""The engine and what it stands on: errors and values, the exchange, the parser, gateways, the transport, the calls."""
