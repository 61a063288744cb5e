-- Purpose: the database of what is derived from the events: the mart and the recommendations.
CREATE DATABASE IF NOT EXISTS analytics
