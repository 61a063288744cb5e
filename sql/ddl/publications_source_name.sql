-- Purpose: the column that analytics.publications lacks if an older version of Rankline created the table.
-- Grain:   none.
ALTER TABLE analytics.publications
ADD COLUMN IF NOT EXISTS source_name String
COMMENT 'source of the interactions that the model was trained on; empty if unknown' AFTER n_rows
