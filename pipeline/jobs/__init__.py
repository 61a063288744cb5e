"""The wiring, readable from top to bottom: what each command does with the rooms below, a file each."""
