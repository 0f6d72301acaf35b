"""From documents and records to summaries."""
