"""Messaging's rules: plain functions and frozen structs, no I/O, no clock, no chance."""
