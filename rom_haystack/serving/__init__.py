"""A folder's answers over HTTP, served by Hayhooks: REST, OpenAI-compatible chat, and MCP.

Modules are imported one by one: only `app` and `wrapper` need Hayhooks, and `environment` must come before them.
"""
