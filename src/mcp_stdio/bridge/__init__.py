"""Bridges between the protocol eras: each is an upstream around an upstream of the other era."""
