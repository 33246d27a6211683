"""Scripts that measure deeptaxi through its command line and print tables."""
