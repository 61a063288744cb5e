-- Purpose: the role of the batch job, which publishes.
CREATE ROLE IF NOT EXISTS rankline_writer
