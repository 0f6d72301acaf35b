"""Who follows the writing of a summary: its text as it comes, what of it is certain, and an early end."""
