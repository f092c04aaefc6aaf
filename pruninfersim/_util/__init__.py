"""Helpers without a subject of their own: arrays, files, checked records, names that are imported when asked for."""
