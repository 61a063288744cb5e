-- Purpose: the names of the models that publish, or have published, into this warehouse.
-- Grain:   a name; empty for the default one, whose table is analytics.recommendations.
SELECT DISTINCT extract(
    staged, '^recommendations_(?:([a-z][a-z0-9_]*)_)?(?:staged|published)_[0-9]+T[0-9]+_[0-9A-Za-z]+$'
) AS name
FROM analytics.publications
ORDER BY name
