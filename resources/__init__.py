"""The words a user may write. Pure."""
