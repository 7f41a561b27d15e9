"""A local stdio face for a remote MCP server: relays JSON-RPC over Streamable HTTP."""

__version__ = "0.1.0"
