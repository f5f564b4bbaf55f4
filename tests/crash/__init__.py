"""SIGKILL of the server in the middle of storms: what is found afterwards is old or new, never half."""
