-- Purpose: record that the owner of a ticket is still running.
-- Grain:   one row, which is added.
-- Parameters:
--   table            the ticket, in analytics
--   host             machine of the job
--   pid              process id of the job
--   process_started  start of that process, which tells it from a later process with the same id
--   what             what the job does
INSERT INTO analytics.{table:Identifier}
SELECT now64(3), {host:String}, {pid:UInt32}, {process_started:String}, {what:String}
