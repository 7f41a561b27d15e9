"""OAuth 2.1 for one MCP server: from a challenge to tokens, and keeping them.

The flows (`login` and what it is made of) are plain synchronous generators that yield commands;
the other modules here perform them. Nothing outside this package knows a token endpoint, and
nothing in it knows an MCP message.
"""
