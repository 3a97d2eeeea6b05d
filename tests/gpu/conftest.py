"""How the property-based tests of this area run: no deadline, because machines that test are shared and slow."""

from hypothesis import settings

settings.register_profile("gpu", deadline=None, max_examples=120, database=None)
settings.load_profile("gpu")
