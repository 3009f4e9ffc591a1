"""Crawlers: from a data folder to the list of its cases."""
