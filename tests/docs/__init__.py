"""What the documentation promises, held to it."""
