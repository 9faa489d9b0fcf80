"""Real Cassandra, some nodes on this machine, each in a control group of its own."""

from lab.cassandra.ring import Node, Ring, kill, pause, plan, running, start, up, wait
from lab.cassandra.software import jars

__all__ = ["Node", "Ring", "jars", "kill", "pause", "plan", "running", "start", "up", "wait"]
