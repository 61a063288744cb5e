-- Purpose: delete the rows of these users. The engine writes the parts that hold them again without these rows.
-- Parameters:
--   database, table  the table
--   salt             salt of the digests
--   digests          the users: sha256 of the salt and the id as text, hexadecimal
-- The users are given by digests because the engine keeps the text of a mutation (system.mutations), and an id would
-- stay there. The condition has no subquery because a replicated table refuses one in a mutation.
ALTER TABLE {database:Identifier}.{table:Identifier}
DELETE WHERE lower(hex(SHA256(concat({salt:String}, toString(user_id))))) IN {digests:Array(String)}
