"""The HTTP server: summaries for any client, an API of its own and OpenAI's."""
