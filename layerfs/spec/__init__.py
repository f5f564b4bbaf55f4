"""What is to be mounted, as values: options parsed and printed."""
