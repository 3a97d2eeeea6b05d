"""The API server: connecting, reading, watching, applying, waiting, and the guard that bounds what may be sent."""
