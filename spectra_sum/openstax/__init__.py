"""Checkouts of OpenStax books (CNXML) as articles in the MSMO layout: sections, their summaries and their figures."""
