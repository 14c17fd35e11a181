"""What each dialect puts on the wire."""
