"""``make bench``: salvus beside Ansible and pyinfra, on the same machines, in the same run. See README.md."""
