"""The command line."""

from importlib.metadata import version

__version__ = version("salvus")
