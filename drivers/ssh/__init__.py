"""The only importer of paramiko."""
