"""Kept for tools that expect it (colcon, old pip); everything stands in pyproject.toml."""

from setuptools import setup

setup()
