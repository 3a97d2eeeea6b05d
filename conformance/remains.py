"""What could not be undone on a cluster: of which object, node or release, and why."""


class Left(str):
    """The words that say what was left and why. They know ``what`` they are about, so that nobody has to cut them."""

    what: str

    def __new__(cls, what: object, why: object) -> "Left":
        """``what: why``."""
        made = super().__new__(cls, f"{what}: {why}")
        made.what = str(what)
        return made
