"""Whether a window still shows the picture that its objects were found in.

Crop, scale, rotate and flip change the pixels and leave the objects where they were. Contrast,
filters and other kinds of pixels leave the places, and are allowed.
"""
from opsef_fiji.trouble import Trouble

GRID = 16
MOST_PLACES = 64
SAME, TURNED = 0.98, 0.99
STEP = ("Nothing was edited or saved. Undo that (Edit > Undo), or close this window and open the "
        "image again.")
TURNS = [
    lambda x, y, width, height: (width - 1 - x, y),
    lambda x, y, width, height: (x, height - 1 - y),
    lambda x, y, width, height: (width - 1 - x, height - 1 - y),
]
SQUARE = [
    lambda x, y, width, height: (y, x),
    lambda x, y, width, height: (y, width - 1 - x),
    lambda x, y, width, height: (height - 1 - y, x),
    lambda x, y, width, height: (height - 1 - y, width - 1 - x),
]
"""Where a pixel comes to lie by a flip or a turn that keeps the sizes."""


class Picture(object):
    """What is kept of an image to know it again: its sizes, and pixels at some places.

    places: where something is to be seen, besides a grid over the image.
    """

    def __init__(self, image, places=()):
        self.sizes = sizes_of(image)
        self.index = image.getCurrentSlice()
        step = 1 + len(places) // MOST_PLACES
        width, height = image.getWidth(), image.getHeight()
        self.places = list(places)[::step] + [
            (int((i + 0.5) * width / GRID), int((j + 0.5) * height / GRID))
            for j in range(GRID) for i in range(GRID)]
        self.before = self.values(image, self.places)

    def values(self, image, places):
        """Return the pixels at some places; none where the stack is read from disk anew."""
        stack = image.getStack()
        if stack.isVirtual() or self.index > stack.getSize():
            return []
        pixels = stack.getProcessor(self.index)
        return [pixels.getPixelValue(x, y) for x, y in places] if pixels is not None else []

    def check(self, image):
        """Refuse where objects would lie at other places than in the picture."""
        now = sizes_of(image)
        if now != self.sizes:
            raise Trouble(
                "The objects no longer fit the picture: it has %s now, they are of %s." % (
                    words_of(now), words_of(self.sizes)), STEP)
        values = self.values(image, self.places)
        if not values or values == self.before or likeness(self.before, values) > SAME:
            return
        width, height = now[:2]
        for turn in TURNS + (SQUARE if width == height else []):
            places = [turn(x, y, width, height) for x, y in self.places]
            if likeness(self.before, self.values(image, places)) > TURNED:
                raise Trouble("The objects no longer fit the picture: it was flipped or rotated.",
                              STEP)


def sizes_of(image):
    return image.getWidth(), image.getHeight(), image.getNSlices(), image.getNFrames()


def words_of(sizes):
    """Return sizes in words.

    >>> words_of((4, 3, 1, 1))
    '4 x 3 pixels'
    """
    width, height, slices, frames = sizes
    words = "%d x %d pixels" % (width, height)
    if slices > 1:
        words += ", %d slices" % slices
    return words + (", %d frames" % frames if frames > 1 else "")


def likeness(one, two):
    """Return the coefficient of correlation of two lists of numbers; 0 where one is even."""
    count = float(len(one))
    if not count or len(one) != len(two):
        return 0.0
    mean_one, mean_two = sum(one) / count, sum(two) / count
    both = sum((a - mean_one) * (b - mean_two) for a, b in zip(one, two))
    square = sum((a - mean_one) ** 2 for a in one) * sum((b - mean_two) ** 2 for b in two)
    return both / square ** 0.5 if square > 0 else 0.0
