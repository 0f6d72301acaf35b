"""The sentences that carry a document, chosen by their embeddings."""
