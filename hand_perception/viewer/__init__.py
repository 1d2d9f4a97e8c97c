"""Hands in a web browser."""
