-- Purpose: the role of whoever reads: training, recommend, why, diff, dashboards.
-- Settings: readonly 2: no statement that writes, whatever is granted later; settings of a query may still be sent,
--          which every client does.
CREATE ROLE IF NOT EXISTS rankline_reader SETTINGS readonly = 2
