"""MCP clients: what has to stand in their configuration for them to start this program.

Owns the table of clients (`table`), the block for each of them (`block`) and the path of this
program (`program`). Refuses to know what the program's arguments mean, and never sees a secret: a
server has the names of its variables, not their values.
"""
