"""How fast it is. Nothing here is a test: what a machine manages says nothing about right."""
