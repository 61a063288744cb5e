-- Purpose: a sign of life of who holds the lock.
-- Parameters:
--   table, host, pid, process_started, what  whose it is, and what for
INSERT INTO analytics.{table:Identifier}
SELECT now64(3), {host:String}, {pid:UInt32}, {process_started:String}, {what:String}
