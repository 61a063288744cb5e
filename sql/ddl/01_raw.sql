-- Purpose: the database of the events as they come in.
CREATE DATABASE IF NOT EXISTS raw
