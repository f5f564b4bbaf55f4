"""Content by digest: in use or not, collected."""
