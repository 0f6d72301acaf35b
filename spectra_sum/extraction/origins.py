"""Where a sentence of a summary comes from."""

WRITTEN, EXTRACTED = "written", "extracted"
