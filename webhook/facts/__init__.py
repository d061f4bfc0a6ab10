"""What rules see and find: frozen facts, and the proof of a whole disk set."""
