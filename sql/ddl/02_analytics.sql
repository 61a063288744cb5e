-- Purpose: the database of what is made from them: the mart and the recommendations.
CREATE DATABASE IF NOT EXISTS analytics
