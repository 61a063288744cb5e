-- Purpose: the role for reading: training, recommend, why, diff, dashboards.
-- Settings: readonly = 2 forbids every statement that writes, whatever is granted later. A query may still send
--           settings, as every client does.
CREATE ROLE IF NOT EXISTS rankline_reader SETTINGS readonly = 2
