"""The version of the installed salvus; apart, because looking it up takes a tenth of a quick command's time."""

from importlib.metadata import version

VERSION = version("salvus")
