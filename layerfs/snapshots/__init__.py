"""The lifecycle of layers, and the contract of the drivers that keep their bytes."""
