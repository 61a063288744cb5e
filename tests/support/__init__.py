"""What many tests share: slow twins, servers, processes, made-up data."""
