"""One run: from the settings to a cluster, its facts, a verdict on each requirement, and the reports."""
