"""One file an item type: its fields, its probe, how the answer is read, how a change is made. Pure."""
