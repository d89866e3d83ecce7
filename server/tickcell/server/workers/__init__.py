"""Several server processes on one address, and the parent that starts them."""
