-- Purpose: a user with the writer's role, for the batch job.
-- Parameters:
--   hash  sha256 of the password, hexadecimal. Make the password random and long; it need not be sent to anyone.
CREATE USER IF NOT EXISTS rankline_write IDENTIFIED WITH sha256_hash BY {hash:String} DEFAULT ROLE rankline_writer
