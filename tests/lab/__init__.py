"""The lab's own tests and those that need it: root, real hosts, real guests."""
