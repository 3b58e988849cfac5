"""THE RUNNING SYSTEM: edge, hosts, control, and the commands that people use."""
