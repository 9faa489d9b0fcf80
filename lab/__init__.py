"""A real fleet on one Linux machine, for the demo and the tests: up, down, status, load, and ways in.

README.md says what is kept where.
"""

from lab.machines import Status, down, load, status, up
from lab.model import Lab, LabError, LabHost, LabImage, Node, Ring
from lab.reach import exec_argv, exec_in, pin, ssh_argv

__all__ = [
    "Lab",
    "LabError",
    "LabHost",
    "LabImage",
    "Node",
    "Ring",
    "Status",
    "down",
    "exec_argv",
    "exec_in",
    "load",
    "pin",
    "ssh_argv",
    "status",
    "up",
]
