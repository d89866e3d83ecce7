"""The store in PostgreSQL, for servers of many machines. Needs the extra `postgres`."""
