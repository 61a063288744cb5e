-- Purpose: the role that ships new interactions (`rankline ship`, and the service).
CREATE ROLE IF NOT EXISTS rankline_shipper
