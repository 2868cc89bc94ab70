"""Attacking a defence that is known: what a query averages, and which candidate is kept."""
