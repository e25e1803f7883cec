"""A small client of Dormouse's own Hub API, for the command line and for publishing the samples."""
