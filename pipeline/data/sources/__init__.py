"""Where interactions come from: the warehouse, files, the sample."""
