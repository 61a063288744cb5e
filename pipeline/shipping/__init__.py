"""Ships what an interaction log holds into the warehouse, each interaction once."""
