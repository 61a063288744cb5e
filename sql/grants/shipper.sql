-- Purpose: the rights of a shipper: it adds events and rows of the ledger, and changes nothing that is there.
-- It reads raw, to ask the ledger what has arrived, and the list of forgotten users, whose events it leaves out.
GRANT
    SELECT ON raw.*,
    SELECT ON analytics.forgotten,
    INSERT ON raw.ratings,
    INSERT ON raw.watched_movies,
    INSERT ON raw.shipments,
    SELECT, INSERT ON analytics.exposures,
    SELECT, INSERT ON analytics.exposure_shipments,
    SELECT, INSERT ON analytics.outcomes
TO rankline_shipper
