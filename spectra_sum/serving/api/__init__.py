"""The ways of asking for a summary: the server's own and OpenAI's."""
