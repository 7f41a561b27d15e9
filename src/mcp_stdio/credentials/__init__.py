"""Credentials that need no sign-in: what the user gives, and files and commands that give it."""
