"""Names of Haystack 1.x on today's parts."""
