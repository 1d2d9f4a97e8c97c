"""A system to try: ``hand-perception demo``."""

from hand_perception.demo.command import add_arguments, run

__all__ = ["add_arguments", "run"]
