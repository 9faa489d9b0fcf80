"""How a machine is asked and told."""
