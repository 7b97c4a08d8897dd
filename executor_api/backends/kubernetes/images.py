"""Which images could not be pulled lately."""

from __future__ import annotations


class ImageHealth:
    """Remembers each image's last failure until a sandbox starts from it."""

    def __init__(self) -> None:
        self._failures: dict[str, str] = {}

    def failed(self, image: str, message: str) -> None:
        """A pod could not get this image."""
        self._failures[image] = message

    def works(self, image: str) -> None:
        """A pod runs from this image."""
        self._failures.pop(image, None)

    def problem(self, image: str) -> str | None:
        """A sentence with the fix, if this image can't be used."""
        message = self._failures.get(image)
        if message is None:
            return None
        return f"image {image} can't be pulled ({message}); push it, put it on the nodes, or name another with --image"

    def others(self, image: str) -> tuple[str, ...]:
        """The same for all images but this one."""
        found = (self.problem(other) for other in sorted(self._failures) if other != image)
        return tuple(sentence for sentence in found if sentence is not None)
