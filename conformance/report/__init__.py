"""The report model, what it concludes, and one emitter for each format."""
