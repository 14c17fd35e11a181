"""The scenarios, by what goes wrong. A family is a list; its order is that of the table."""
