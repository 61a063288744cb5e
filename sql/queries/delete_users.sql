-- Purpose: delete the rows of these users; the parts that hold them are written again without.
-- Parameters:
--   database, table  the table
--   salt, digests    the users: sha256 of the salt and the id as text, hexadecimal
-- Digests, since the engine keeps the text of a mutation (system.mutations): an id would stay there. No subquery: a
-- replicated table refuses one here.
ALTER TABLE {database:Identifier}.{table:Identifier}
DELETE WHERE lower(hex(SHA256(concat({salt:String}, toString(user_id))))) IN {digests:Array(String)}
