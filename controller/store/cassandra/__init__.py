"""State in Cassandra 5: several nodes, several controllers; what is where and why is in docs/store.md.

The only importer of the driver, the package ``cassandra``.
"""
