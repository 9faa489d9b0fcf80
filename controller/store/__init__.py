"""What the controller knows, kept: one row protocol, several backends."""
