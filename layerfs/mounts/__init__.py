"""One stack at one mountpoint: which driver serves it, and the registry of what is mounted."""
