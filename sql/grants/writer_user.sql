-- Purpose: a user for the batch job.
-- Parameters:
--   hash  sha256 of the password, hexadecimal: make the password at random and long, and it need be sent to nobody
CREATE USER IF NOT EXISTS rankline_write IDENTIFIED WITH sha256_hash BY {hash:String} DEFAULT ROLE rankline_writer
