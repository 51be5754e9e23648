"""Runs one system after another under the same load against the same sink, and prints a table."""
