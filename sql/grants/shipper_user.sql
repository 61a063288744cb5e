-- Purpose: a user with the shipper's role.
-- Parameters:
--   hash  sha256 of the password, hexadecimal. Make the password random and long; it need not be sent to anyone.
CREATE USER IF NOT EXISTS rankline_ship IDENTIFIED WITH sha256_hash BY {hash:String} DEFAULT ROLE rankline_shipper
