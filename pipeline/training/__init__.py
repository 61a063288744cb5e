"""From interactions to a fitted, evaluated model; the search of options; memory and time estimates."""
