"""Real Cassandra, some nodes on this machine, each in a control group of its own."""

from lab.cassandra.ring import kill, look, pause, plan, running, start, up, wait
from lab.cassandra.software import jars
from lab.model import Node, Ring

__all__ = ["Node", "Ring", "jars", "kill", "look", "pause", "plan", "running", "start", "up", "wait"]
