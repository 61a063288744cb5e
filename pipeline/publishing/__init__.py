"""The recommendations table in the warehouse: scored, checked, published, rolled back."""
