"""The models of the reproduction: what is trained, on what, and how."""
