"""The XML of OpenStax: a module's title, text, summary and figures."""
