"""GPU and scheduling knowledge as pure functions: it reads nothing and imports nothing else of the project."""
